/**
 * Which items are left to come again, as too many of their order are in flight already.
 *
 * Plain data. Of each order nothing overtakes what was postponed, on one connection.
 */

/** How many there are of each order. */
export class Counts {
  private readonly counts = new Map<string, number>()

  of(order: string): number {
    return this.counts.get(order) ?? 0
  }

  add(order: string): void {
    this.counts.set(order, this.of(order) + 1)
  }

  remove(order: string): void {
    const count = this.of(order)
    if (count > 1) this.counts.set(order, count - 1)
    else this.counts.delete(order)
  }

  clear(): void {
    this.counts.clear()
  }
}

export class Postponing {
  /** The first item that was postponed, by its ack, of each order that has one. */
  private readonly first = new Map<string, string>()
  count = 0

  /** Of more orders nothing is postponed: what cannot be remembered could be overtaken. */
  constructor(private readonly maxOrders: number) {}

  has(order: string): boolean {
    return this.first.size > 0 && this.first.has(order)
  }

  /**
   * Whether an item with that ack is postponed. From the first one on all of that order are, until it has come again: what is
   * behind it must not overtake it. An item without an ack never comes again.
   */
  postpones(order: string, ack: string | undefined, isFull: boolean): boolean {
    if (ack === undefined) return false
    const first = this.first.get(order)
    if (first === undefined) {
      if (!isFull || this.first.size >= this.maxOrders) return false
      this.first.set(order, ack)
    } else if (!isFull && first === ack) {
      this.first.delete(order)
      return false
    }
    this.count++
    return true
  }

  /** On another connection everything comes again, in order. */
  clear(): void {
    this.first.clear()
  }
}
