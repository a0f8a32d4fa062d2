/**
 * The last changes of a cache, in the order of their revisions, which have no gaps. The oldest makes room for the newest.
 */
import type { Changed } from "./event.js"

export class History<A> {
  private readonly changes: Array<Changed<A>> = []
  private newest: number

  constructor(
    readonly capacity: number,
    /** The revision before the first change. */
    private readonly start: number
  ) {
    this.newest = start
  }

  /** The revision of the newest change. */
  get head(): number {
    return this.newest
  }

  /** The oldest revision behind which no change has gone. */
  get floor(): number {
    return Math.max(this.start, this.newest - this.capacity)
  }

  /** Adds the change of the next revision, and gives the one that made room for it. */
  push(change: Changed<A>): Changed<A> | undefined {
    const slot = this.slotOf(change.revision)
    const gone = this.changes[slot]
    this.changes[slot] = change
    this.newest = change.revision
    return gone
  }

  /** The change of a revision above {@link floor}. */
  at(revision: number): Changed<A> {
    return this.changes[this.slotOf(revision)]!
  }

  private slotOf(revision: number): number {
    return (revision - this.start - 1) % this.capacity
  }
}
