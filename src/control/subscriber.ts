/**
 * One reader of the history of a cache: what it is told next.
 *
 * It costs the cache nothing while it is slow: it holds a revision, and with `resync` the keys that it missed with the values
 * that it last saw, of which there are never more than it has seen and there are now.
 */
import * as Option from "effect/Option"
import * as Change from "../core/Change.js"
import type { Cache, Follower } from "./cache.js"
import type { Changed, Event, Predicate } from "./event.js"
import { before, difference, narrow, together } from "./event.js"

/** How many events are handed out at once at most. */
const atOnce = 1024

export interface Subscription<in A> {
  readonly from: "snapshot" | "now" | number
  readonly buffer: number
  readonly resync: boolean
  readonly accepts: Predicate<A> | undefined
  /** Told how many changes it missed. */
  readonly onMissed: (count: number) => void
}

export class Subscriber<A> implements Follower<A> {
  /** It was told everything up to this revision, once `pending` is through. */
  private told: number
  /** Every change up to this revision was told, or is in `missed`. */
  private cursor: number
  /** The keys of the changes that it missed, and what it saw there last. */
  private readonly missed = new Map<string, Option.Option<A>>()
  private pending: Iterator<Event<A>> | undefined

  constructor(
    private readonly cache: Cache<A>,
    private readonly subscription: Subscription<A>
  ) {
    const { from, resync } = subscription
    this.told = typeof from === "number" ? from : cache.history.head
    this.cursor = this.told
    if (from === "snapshot") this.pending = this.initial()
    if (resync) cache.followers.add(this)
  }

  close(): void {
    this.cache.followers.delete(this)
  }

  /** Whether there is nothing to tell. */
  get isUpToDate(): boolean {
    return this.pending === undefined && this.told === this.cache.history.head
  }

  /** What it is told next; nothing: it is up to date. */
  read(): ReadonlyArray<Event<A>> {
    while (!this.isUpToDate) {
      if (this.pending === undefined && this.isTooFarBehind) this.pending = this.catchUp()
      const events = this.pending === undefined ? this.live() : this.rest(this.pending)
      if (events.length > 0) return events
    }
    return []
  }

  passed(change: Changed<A>): void {
    if (change.revision > this.cursor) this.miss(change)
  }

  private get isTooFarBehind(): boolean {
    return this.cache.history.head - this.told > this.subscription.buffer
  }

  private live(): ReadonlyArray<Event<A>> {
    const { history } = this.cache
    const to = Math.min(history.head, this.cursor + atOnce)
    const events: Array<Event<A>> = []
    for (let revision = this.cursor + 1; revision <= to; revision++) {
      const event = narrow(history.at(revision), this.subscription.accepts)
      if (event !== undefined) events.push(event)
    }
    this.told = this.cursor = to
    return events
  }

  private rest(pending: Iterator<Event<A>>): ReadonlyArray<Event<A>> {
    const events: Array<Event<A>> = []
    while (events.length < atOnce) {
      const next = pending.next()
      if (next.done === true) {
        this.pending = undefined
        break
      }
      events.push(next.value)
    }
    return events
  }

  private initial(): Iterator<Event<A>> {
    const { items, revision } = this.cache.snapshot
    const { accepts } = this.subscription
    const added = function* (): Generator<Change.Change<A>> {
      for (const [key, value] of items) if (accepts === undefined || accepts(value, key)) yield Change.added(key, value)
    }
    return together(added(), revision)
  }

  /** Skips to the newest revision: what is in between is told as a number, or as the difference that it made. */
  private catchUp(): Iterator<Event<A>> {
    const { history } = this.cache
    const revision = history.head
    const missed = revision - this.told
    this.subscription.onMissed(missed)
    if (!this.subscription.resync) {
      this.told = this.cursor = revision
      return [{ _tag: "Lagged" as const, missed, revision }].values()
    }
    while (this.cursor < revision) this.miss(history.at(this.cursor + 1))
    this.told = revision
    const changes: Array<Change.Change<A>> = []
    for (const [key, seen] of this.missed) {
      const change = difference(key, seen, this.cache.get(key), this.subscription.accepts)
      if (change !== undefined) changes.push(change)
    }
    this.missed.clear()
    return together(changes, revision)
  }

  private miss(change: Changed<A>): void {
    const { key } = change
    const seen = this.missed.get(key)
    if (seen === undefined) this.missed.set(key, before(change))
    // it came and went unseen: that is no difference
    else if (change._tag === "Removed" && Option.isNone(seen)) this.missed.delete(key)
    this.cursor = change.revision
  }
}
