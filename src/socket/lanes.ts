/**
 * What waits to be handled: in order of arrival, at most one at a time of those that belong together.
 *
 * Plain data. An item is taken in constant time, and a lane that is empty is forgotten.
 */

/** A queue over an array whose head is moved, not cut off. */
export class Fifo<T> {
  private items: Array<T> = []
  private head = 0

  get length(): number {
    return this.items.length - this.head
  }

  push(item: T): void {
    this.items.push(item)
  }

  shift(): T | undefined {
    if (this.head === this.items.length) return undefined
    const item = this.items[this.head]!
    // what was taken must not be kept alive
    this.items[this.head++] = undefined as T
    if (this.head === this.items.length) {
      this.items = []
      this.head = 0
    } else if (this.head >= 1024 && this.head * 2 >= this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
    return item
  }

  /** Takes all. */
  takeAll(): Array<T> {
    const all = this.head === 0 ? this.items : this.items.slice(this.head)
    this.items = []
    this.head = 0
    return all
  }
}

export class Lanes<T> {
  private readonly ready = new Fifo<T>()
  /** What waits behind the item of each lane that is ready or being handled; `undefined`: nothing did so far. */
  private readonly lanes = new Map<string, Fifo<T> | undefined>()

  /** Adds an item. True: it can be taken now. */
  push(item: T, order: string | undefined): boolean {
    if (order !== undefined) {
      if (this.lanes.has(order)) {
        const lane = this.lanes.get(order)
        if (lane !== undefined) lane.push(item)
        else {
          const made = new Fifo<T>()
          made.push(item)
          this.lanes.set(order, made)
        }
        return false
      }
      this.lanes.set(order, undefined)
    }
    this.ready.push(item)
    return true
  }

  take(): T | undefined {
    return this.ready.shift()
  }

  /** Takes all that is ready: for those without lanes. */
  takeAll(): Array<T> {
    return this.ready.takeAll()
  }

  /** Takes all there is, also what waits behind another: nothing is ready any more until something is added. */
  drain(): Array<T> {
    const all = this.ready.takeAll()
    for (const lane of this.lanes.values()) if (lane !== undefined) all.push(...lane.takeAll())
    this.lanes.clear()
    return all
  }

  /** The item that was taken of that lane is handled: the next one is ready. True: there is one. */
  release(order: string | undefined): boolean {
    if (order === undefined) return false
    const next = this.lanes.get(order)?.shift()
    if (next === undefined) {
      this.lanes.delete(order)
      return false
    }
    this.ready.push(next)
    return true
  }

  /** Whether so many wait behind the one of that lane that is ready or being handled. */
  isFull(order: string, max: number): boolean {
    return this.lanes.has(order) && (this.lanes.get(order)?.length ?? 0) >= max
  }

  get readyCount(): number {
    return this.ready.length
  }

  clear(): void {
    this.ready.takeAll()
    this.lanes.clear()
  }
}
