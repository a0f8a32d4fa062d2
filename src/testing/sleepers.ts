/**
 * Who sleeps until when: a heap by time, then by the order of lying down.
 */

export interface Sleeper {
  readonly at: number
  readonly order: number
  /** Empty once it was cancelled or woken. */
  wake: (() => void) | undefined
}

const isBefore = (a: Sleeper, b: Sleeper): boolean => (a.at === b.at ? a.order < b.order : a.at < b.at)

export class Sleepers {
  private heap: Array<Sleeper> = []
  private cancelled = 0
  private orders = 0

  constructor(public now: number) {}

  get isEmpty(): boolean {
    return this.heap.length === this.cancelled
  }

  add(millis: number, wake: () => void): Sleeper {
    const sleeper: Sleeper = { at: this.now + Math.max(0, millis), order: this.orders++, wake }
    this.heap.push(sleeper)
    this.up(this.heap.length - 1)
    return sleeper
  }

  cancel(sleeper: Sleeper): void {
    if (sleeper.wake === undefined) return
    sleeper.wake = undefined
    this.cancelled++
    // timeouts are cancelled far more often than they fire: they must not pile up until their time
    if (this.cancelled > 32 && this.cancelled * 2 > this.heap.length) {
      this.heap = this.heap.filter((other) => other.wake !== undefined).sort((a, b) => (isBefore(a, b) ? -1 : 1))
      this.cancelled = 0
    }
  }

  /** Goes to the earliest instant that somebody waits for, and wakes all who do. */
  wakeNext(): void {
    this.dropCancelled()
    const first = this.heap[0]
    if (first === undefined) return
    this.now = first.at
    for (let next = this.heap[0]; next !== undefined && next.at === first.at; next = this.heap[0]) {
      this.pop()
      const { wake } = next
      next.wake = undefined
      if (wake === undefined) this.cancelled--
      else wake()
    }
  }

  private dropCancelled(): void {
    while (this.heap.length > 0 && this.heap[0]!.wake === undefined) {
      this.pop()
      this.cancelled--
    }
  }

  private up(from: number): void {
    const { heap } = this
    const sleeper = heap[from]!
    let at = from
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(sleeper, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = sleeper
  }

  private pop(): void {
    const { heap } = this
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
  }
}
