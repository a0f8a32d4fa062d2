/** The contract of a follower of a cache, written as plainly as it can be: the state at every revision is kept. */
import { assert } from "@effect/vitest"
import { Equal, Option } from "effect"
import type { Change } from "effect-periscope"
import { Cache } from "../../src/control/cache.js"
import type { Event } from "../../src/control/event.js"
import { Subscriber } from "../../src/control/subscriber.js"

export type View = ReadonlyMap<string, number>
export type Accepts = ((value: number, key: string) => boolean) | undefined

export interface Following {
  readonly from: "snapshot" | "now"
  readonly buffer: number
  readonly resync: boolean
  readonly accepts: Accepts
}

const filtered = (state: View, accepts: Accepts): Map<string, number> =>
  new Map([...state].filter(([key, value]) => accepts?.(value, key) ?? true))

/** The same for the same view; comparing texts is quick. */
const text = (view: View): string =>
  [...view]
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(" ")

export class World {
  readonly cache: Cache<number>
  /** The state after each revision. */
  private readonly states = new Map<number, View>()
  missed = 0

  constructor(history: number, start: number) {
    this.cache = new Cache<number>(history, start, { parity: (value) => (value % 2 === 0 ? "even" : ["odd", "all"]) })
    this.states.set(start, new Map())
  }

  get head(): number {
    return this.cache.history.head
  }

  get state(): View {
    return this.stateAt(this.head)
  }

  stateAt(revision: number): View {
    const state = this.states.get(revision)
    assert.isDefined(state, `no state was ever at revision ${revision}`)
    return state
  }

  apply(change: Change.Change<number>): void {
    const { state } = this
    const isNothing = change._tag === "Removed" && !state.has(change.key)
    const before = this.head
    this.cache.apply(change)
    assert.strictEqual(this.head, isNothing ? before : before + 1)
    if (isNothing) return
    const next = new Map(state)
    if (change._tag === "Removed") next.delete(change.key)
    else next.set(change.key, change.value)
    this.states.set(this.head, next)
  }

  check(): void {
    const { items, revision } = this.cache.snapshot
    assert.strictEqual(revision, this.head)
    assert.strictEqual(text(items), text(this.state))
    const odd = filtered(this.state, (value) => value % 2 !== 0)
    for (const term of ["odd", "all"]) assert.strictEqual(text(new Map(this.cache.by("parity", term))), text(odd))
    for (const key of ["a", "b", "nobody"]) {
      assert.deepStrictEqual(this.cache.get(key), Option.fromNullable(this.state.get(key)))
    }
  }
}

/** A follower that keeps a view, as a program would, and is suspicious. */
export class Reader {
  private view = new Map<string, number>()
  /** Where it could resume. */
  revision: number
  lags = 0
  resumptions = 0
  compactions = 0
  private subscriber: Subscriber<number>

  constructor(
    private readonly world: World,
    private readonly following: Following
  ) {
    const { accepts, from } = following
    this.subscriber = this.subscribe(from)
    this.revision = from === "snapshot" ? 0 : world.head
    if (from === "now") this.view = filtered(world.state, accepts)
  }

  private subscribe(from: "snapshot" | "now" | number): Subscriber<number> {
    const { accepts, buffer, resync } = this.following
    const onMissed = (count: number): void => {
      this.world.missed += count
    }
    return new Subscriber(this.world.cache, { from, buffer, resync, accepts, onMissed })
  }

  /** Reads once, and handles the first `most` of what it got; the rest is lost with the subscription. */
  read(most = Infinity): number {
    const told = this.subscriber["told"]
    this.checkBound(told)
    const events = this.subscriber.read()
    events.slice(0, most).forEach((event) => this.handle(event))
    if (events.length > most) this.resume()
    return events.length
  }

  /** Comes back with the revision that it has. */
  resume(): void {
    this.subscriber.close()
    this.resumptions++
    const { floor, head } = this.world.cache.history
    if (this.revision >= floor && this.revision <= head) {
      this.subscriber = this.subscribe(this.revision)
    } else {
      this.compactions++
      this.view.clear()
      this.revision = 0
      this.subscriber = this.subscribe("snapshot")
    }
  }

  close(): void {
    this.subscriber.close()
  }

  finish(): void {
    while (this.read() > 0) {}
    assert.isTrue(this.subscriber.isUpToDate)
    assert.strictEqual(text(this.view), text(filtered(this.world.state, this.following.accepts)))
  }

  private handle(event: Event<number>): void {
    if (event._tag === "Lagged") return this.lagged(event.missed, event.revision)
    const { key, revision } = event
    const known = Option.fromNullable(this.view.get(key))
    const previous = event._tag === "Added" ? Option.none() : event.previous
    assert.isTrue(Equal.equals(previous, known), `${event._tag} ${key}`)
    if (event._tag === "Removed") this.view.delete(key)
    else this.view.set(key, event.value)
    const before = this.revision
    this.revision = revision
    if (revision === 0) return
    assert.isAbove(revision, before, "told the past")
    const state = filtered(this.world.stateAt(revision), this.following.accepts)
    assert.strictEqual(text(this.view), text(state), `the view at ${revision}`)
  }

  private lagged(missed: number, revision: number): void {
    this.lags++
    assert.isFalse(this.following.resync)
    assert.isAbove(missed, this.following.buffer)
    assert.strictEqual(revision, this.world.head)
    if (this.following.accepts === undefined && this.revision > 0) assert.strictEqual(missed, revision - this.revision)
    else assert.isAtMost(missed, revision - this.revision)
    const snapshot = this.world.cache.snapshot
    this.view = filtered(snapshot.items, this.following.accepts)
    this.revision = snapshot.revision
  }

  /** It never holds more keys than it has seen, and were there when the oldest change was made that is kept. */
  private checkBound(told: number): void {
    const { floor } = this.world.cache.history
    const bound = this.world.stateAt(told).size + this.world.stateAt(floor).size
    assert.isAtMost(this.subscriber["missed"].size, bound)
  }
}
