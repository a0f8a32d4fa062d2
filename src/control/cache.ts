/**
 * The newest value of each key, the indexes over them, and the last changes.
 */
import * as Option from "effect/Option"
import type * as Change from "../core/Change.js"
import type { Changed } from "./event.js"
import { History } from "./history.js"
import type { TermsOf } from "./keyIndex.js"
import { KeyIndex } from "./keyIndex.js"

/** All values at one time. `revision` is that of the last change in them. */
export interface Snapshot<out A> {
  readonly revision: number
  readonly items: ReadonlyMap<string, A>
}

/** Wants to know what makes room in the history. */
export interface Follower<in A> {
  readonly passed: (change: Changed<A>) => void
}

export class Cache<A> {
  readonly history: History<A>
  readonly followers = new Set<Follower<A>>()
  private items = new Map<string, A>()
  /** Somebody holds `items`: the next change is made in a copy. */
  private isShared = false
  private readonly indexes: ReadonlyMap<string, KeyIndex<A>>

  constructor(history: number, start: number, indexes: Readonly<Record<string, TermsOf<A>>>) {
    this.history = new History(history, start)
    this.indexes = new Map(Object.entries(indexes).map(([name, termsOf]) => [name, new KeyIndex(termsOf)]))
  }

  get size(): number {
    return this.items.size
  }

  get(key: string): Option.Option<A> {
    const value = this.items.get(key)
    return value !== undefined || this.items.has(key) ? Option.some(value as A) : Option.none()
  }

  /** To be gone through at once. */
  get entries(): Iterable<readonly [string, A]> {
    return this.items
  }

  get snapshot(): Snapshot<A> {
    this.isShared = true
    return { revision: this.history.head, items: this.items }
  }

  /** The keys and values under a term, in the order in which they came there. */
  by(index: string, term: string): Array<readonly [string, A]> {
    const found = this.indexes.get(index)
    if (found === undefined) {
      const names = [...this.indexes.keys()].map((name) => `"${name}"`).join(", ")
      throw new Error(
        `Informer: there is no index "${index}"; ${names === "" ? "there are none" : `there are ${names}`}.`
      )
    }
    return Array.from(found.keys(term), (key) => [key, this.items.get(key) as A] as const)
  }

  /** Takes what a watcher found, whatever it thinks of what was there before. */
  apply(change: Change.Change<A>): void {
    const { key } = change
    const from = this.get(key)
    if (change._tag === "Removed") {
      if (Option.isSome(from))
        this.change({ _tag: "Removed", key, previous: from, revision: this.next }, from, Option.none())
      return
    }
    const { value } = change
    const to = Option.some(value)
    if (Option.isNone(from)) this.change({ _tag: "Added", key, value, revision: this.next }, from, to)
    else this.change({ _tag: "Modified", key, value, previous: from, revision: this.next }, from, to)
  }

  private get next(): number {
    return this.history.head + 1
  }

  private change(change: Changed<A>, from: Option.Option<A>, to: Option.Option<A>): void {
    const { key } = change
    if (this.indexes.size > 0) {
      // all of them, or none: the functions are the caller's, and may throw
      const updates = Array.from(this.indexes.values(), (index) => index.change(key, from, to))
      for (const update of updates) update()
    }
    if (this.isShared) {
      this.items = new Map(this.items)
      this.isShared = false
    }
    if (Option.isSome(to)) this.items.set(key, to.value)
    else this.items.delete(key)
    const passed = this.history.push(change)
    if (passed !== undefined) for (const follower of this.followers) follower.passed(passed)
  }
}
