/**
 * The plain data of a work queue: which keys are queued, running, or to be added later. It knows no effects; time is given.
 *
 * A key has a slot, a row of numbers, from its first add until nothing is to be done with it any more. A queued slot is in the
 * list of its priority, a running one in the list of the running ones: lists are threaded through the rows, so a key that is
 * raised or taken leaves nothing behind.
 */
import { Delays, grown } from "./delays.js"

/** What is told to whoever measures: durations in milliseconds. */
export interface Meter {
  readonly added: (priority: number) => void
  readonly raised: (from: number, to: number) => void
  readonly taken: (priority: number, waited: number) => void
  readonly done: (worked: number) => void
  /** That many of that priority were dropped. */
  readonly dropped: (priority: number, count: number) => void
}

/** What became of a key that was added. `known`: it is to be worked on anyway; `dirty`: it runs, and will once more. */
export type Added = "queued" | "dirty" | "known" | "refused"

/** Lower comes first. */
export const live = 0
export const retry = 1
export const resync = 2
const running = 3
const lists = 4

const priorityBits = 3
const queuedFlag = 4
const runningFlag = 8
const dirtyFlag = 16

const isRetryMark = 4
const none = -1
const shrinkAbove = 4096

/** The work that is not done. */
export interface Running {
  readonly count: number
  readonly totalMillis: number
  readonly longestMillis: number
}

export class KeyTable<K> {
  readonly delays = new Delays()
  /** How many keys are in each list. */
  private readonly counts = [0, 0, 0, 0]
  private readonly heads = new Int32Array(lists).fill(none)
  private readonly tails = new Int32Array(lists).fill(none)
  private readonly slots = new Map<unknown, number>()
  private readonly dirtyAt = new Map<number, number>()
  /** What was asked for, where a retry waits too: it stays when the retry is called off. */
  private readonly asked = new Map<number, { at: number; priority: number }>()
  private keys: Array<K | undefined> = []
  private flags = new Uint8Array(0)
  private before = new Int32Array(0)
  private after = new Int32Array(0)
  /** When it was queued or, of a running one, taken. */
  private since = new Float64Array(0)
  private free = none
  private isShut = false
  private isCleared = false

  constructor(
    private readonly identify: ((key: K) => unknown) | undefined,
    private readonly maxKeys: number,
    private readonly now: () => number,
    private readonly meter: Meter,
    /** Is told the identity of a key that is dropped before it was worked on. */
    private readonly onDrop: (id: unknown) => void
  ) {}

  /** How many keys wait to be taken. */
  get length(): number {
    return this.counts[live]! + this.counts[retry]! + this.counts[resync]!
  }

  lengthOf(priority: number): number {
    return this.counts[priority]!
  }

  get runningCount(): number {
    return this.counts[running]!
  }

  /** How many keys it knows, for whatever reason. */
  get size(): number {
    return this.slots.size
  }

  get isShutDown(): boolean {
    return this.isShut
  }

  idOf(key: K): unknown {
    return this.identify === undefined ? key : this.identify(key)
  }

  keyOf(slot: number): K {
    return this.keys[slot]!
  }

  /** The slot of a key that runs; -1: it does not. */
  runningSlot(key: K): number {
    const slot = this.slots.get(this.idOf(key))
    return slot !== undefined && (this.flags[slot]! & runningFlag) !== 0 ? slot : none
  }

  /** `isRetry`: it was here before, so there is room for it. */
  add(key: K, priority: number, isRetry = false): Added {
    if (this.isShut) return "refused"
    const id = this.idOf(key)
    const slot = this.slots.get(id)
    if (slot !== undefined) return this.mark(slot, priority)
    if (this.slots.size >= this.maxKeys && !isRetry) return "refused"
    const made = this.allocate(id, key)
    this.push(made, priority, this.now())
    this.flags[made] = priority | queuedFlag
    this.meter.added(priority)
    return "queued"
  }

  /** Adds a key at a later time. Of several such times the earliest counts. */
  addAt(key: K, at: number, priority: number, isRetry: boolean): boolean {
    if (this.isShut) return false
    const id = this.idOf(key)
    let slot = this.slots.get(id)
    if (slot === undefined) {
      if (this.slots.size >= this.maxKeys && !isRetry) return false
      slot = this.allocate(id, key)
    }
    const { delays } = this
    const known = delays.has(slot) ? delays.markOf(slot) : none
    if (known === none) delays.set(slot, at, priority | (isRetry ? isRetryMark : 0))
    else {
      if (isRetry ? (known & isRetryMark) === 0 : (known & isRetryMark) !== 0) this.ask(slot, isRetry, at, priority)
      const kind = isRetry ? isRetryMark : known & isRetryMark
      delays.set(slot, at, Math.min(priority, known & priorityBits) | kind)
    }
    return true
  }

  /** Remembers what is asked for where a retry waits, or comes to wait. */
  private ask(slot: number, isRetry: boolean, at: number, priority: number): void {
    const { asked, delays } = this
    const before = asked.get(slot)
    if (isRetry) asked.set(slot, { at: delays.atOf(slot), priority: delays.markOf(slot) & priorityBits })
    else if (before === undefined) asked.set(slot, { at, priority })
    else {
      before.at = Math.min(before.at, at)
      before.priority = Math.min(before.priority, priority)
    }
  }

  /** Adds what is due by then; gives how many can be taken because of that. */
  fire(now: number): number {
    const { delays } = this
    let queued = 0
    for (let slot = delays.due(now); slot !== none; slot = delays.due(now)) {
      const priority = delays.markOf(slot) & priorityBits
      delays.remove(slot)
      if (this.asked.size > 0) this.asked.delete(slot)
      if (this.mark(slot, priority) === "queued") queued++
    }
    return queued
  }

  /** Forgets that a key was to be added because its work had failed. What was asked for besides stays. */
  cancelRetry(key: K): void {
    const slot = this.slots.get(this.idOf(key))
    if (slot === undefined || !this.delays.has(slot) || (this.delays.markOf(slot) & isRetryMark) === 0) return
    this.delays.remove(slot)
    const asked = this.asked.get(slot)
    if (asked === undefined) return this.release(slot)
    this.asked.delete(slot)
    this.delays.set(slot, asked.at, asked.priority)
  }

  /** Takes the first key: gives its slot, or -1. */
  take(now: number): number {
    for (let priority = live; priority < running; priority++) {
      const slot = this.heads[priority]!
      if (slot === none) continue
      this.unlink(slot, priority)
      this.meter.taken(priority, now - this.since[slot]!)
      this.flags[slot] = priority | runningFlag
      this.push(slot, running, now)
      return slot
    }
    return none
  }

  /** Ends the work on a slot; true: it was added meanwhile and can be taken again. */
  done(slot: number, now: number): boolean {
    this.meter.done(now - this.since[slot]!)
    this.unlink(slot, running)
    const flags = this.flags[slot]!
    if ((flags & dirtyFlag) === 0) {
      this.flags[slot] = 0
      this.release(slot)
      return false
    }
    const priority = flags & priorityBits
    this.flags[slot] = priority | queuedFlag
    this.push(slot, priority, this.dirtyAt.get(slot)!)
    this.dirtyAt.delete(slot)
    return true
  }

  /** Ends work that was not finished: the key is queued again, also when no more are added, unless all were dropped. */
  putBack(slot: number, now: number): boolean {
    if (this.isCleared) this.onDrop(this.idOf(this.keys[slot]!))
    else this.mark(slot, this.flags[slot]! & priorityBits)
    return this.done(slot, now)
  }

  /** From now on nothing is added; what is queued can still be taken. */
  shutDown(): void {
    this.isShut = true
    this.asked.clear()
    for (let slot = this.delays.due(Infinity); slot !== none; slot = this.delays.due(Infinity)) {
      this.delays.remove(slot)
      if (this.flags[slot] === 0) this.onDrop(this.idOf(this.keys[slot]!))
      this.release(slot)
    }
  }

  /** Drops what was not taken; gives how many keys that are. From now on also what is put back is dropped. */
  clear(): number {
    this.isCleared = true
    let dropped = this.dirtyAt.size
    for (const slot of this.dirtyAt.keys()) {
      this.meter.dropped(this.flags[slot]! & priorityBits, 1)
      this.flags[slot]! &= ~dirtyFlag
    }
    this.dirtyAt.clear()
    for (let priority = live; priority < running; priority++) {
      const count = this.counts[priority]!
      if (count > 0) this.meter.dropped(priority, count)
      dropped += count
      for (let slot = this.heads[priority]!; slot !== none; slot = this.heads[priority]!) {
        this.unlink(slot, priority)
        this.flags[slot] = 0
        this.onDrop(this.idOf(this.keys[slot]!))
        this.release(slot)
      }
    }
    return dropped
  }

  work(now: number): Running {
    let totalMillis = 0
    for (let slot = this.heads[running]!; slot !== none; slot = this.after[slot]!)
      totalMillis += now - this.since[slot]!
    // the first one was taken first
    const first = this.heads[running]!
    const longest = first === none ? 0 : now - this.since[first]!
    // a clock that was set back
    return { count: this.runningCount, totalMillis: Math.max(0, totalMillis), longestMillis: Math.max(0, longest) }
  }

  /** Adds a key that has a slot. */
  private mark(slot: number, priority: number): Added {
    const flags = this.flags[slot]!
    if ((flags & (queuedFlag | dirtyFlag)) !== 0) {
      const current = flags & priorityBits
      if (priority < current) this.raise(slot, current, priority)
      return "known"
    }
    this.meter.added(priority)
    if ((flags & runningFlag) !== 0) {
      this.flags[slot] = priority | runningFlag | dirtyFlag
      this.dirtyAt.set(slot, this.now())
      return "dirty"
    }
    this.flags[slot] = priority | queuedFlag
    this.push(slot, priority, this.now())
    return "queued"
  }

  private raise(slot: number, from: number, to: number): void {
    const flags = this.flags[slot]!
    this.flags[slot] = (flags & ~priorityBits) | to
    this.meter.raised(from, to)
    if ((flags & queuedFlag) === 0) return
    const since = this.since[slot]!
    this.unlink(slot, from)
    this.push(slot, to, since)
  }

  private push(slot: number, list: number, since: number): void {
    const tail = this.tails[list]!
    this.before[slot] = tail
    this.after[slot] = none
    this.since[slot] = since
    if (tail === none) this.heads[list] = slot
    else this.after[tail] = slot
    this.tails[list] = slot
    this.counts[list]!++
  }

  private unlink(slot: number, list: number): void {
    const before = this.before[slot]!
    const after = this.after[slot]!
    if (before === none) this.heads[list] = after
    else this.after[before] = after
    if (after === none) this.tails[list] = before
    else this.before[after] = before
    this.counts[list]!--
  }

  private allocate(id: unknown, key: K): number {
    let slot = this.free
    if (slot === none) {
      slot = this.keys.length
      if (slot === this.flags.length) this.grow(slot + 1)
      this.keys.push(key)
    } else {
      this.free = this.after[slot]!
      this.keys[slot] = key
    }
    this.slots.set(id, slot)
    return slot
  }

  /** Gives a slot back if nothing is to be done with it. */
  private release(slot: number): void {
    if (this.flags[slot] !== 0 || this.delays.has(slot)) return
    this.slots.delete(this.idOf(this.keys[slot]!))
    this.keys[slot] = undefined
    this.after[slot] = this.free
    this.free = slot
    // what a burst took is given back after it
    if (this.slots.size === 0 && this.keys.length > shrinkAbove) this.reset()
  }

  private grow(least: number): void {
    this.flags = grown(this.flags, least)
    this.before = grown(this.before, least)
    this.after = grown(this.after, least)
    this.since = grown(this.since, least)
  }

  private reset(): void {
    this.keys = []
    this.free = none
    this.flags = new Uint8Array(0)
    this.before = this.after = new Int32Array(0)
    this.since = new Float64Array(0)
    this.delays.clear()
  }
}
