/**
 * Which slots are due when: a heap by time, then by the order of setting. A slot is in it once, at its earliest time.
 */

const minCapacity = 64

export class Delays {
  private at = new Float64Array(0)
  private order = new Float64Array(0)
  private slot = new Int32Array(0)
  private mark = new Uint8Array(0)
  /** Of a slot: its place in the heap and one more; 0: it is not there. */
  private place = new Int32Array(0)
  private orders = 0
  size = 0

  /** When the first one is due; `Infinity`: there is none. */
  get firstAt(): number {
    return this.size === 0 ? Infinity : this.at[0]!
  }

  has(slot: number): boolean {
    return slot < this.place.length && this.place[slot] !== 0
  }

  atOf(slot: number): number {
    return this.at[this.place[slot]! - 1]!
  }

  markOf(slot: number): number {
    return this.mark[this.place[slot]! - 1]!
  }

  /** Sets a slot that is not there, or moves one forward; never back. */
  set(slot: number, at: number, mark: number): void {
    if (this.has(slot)) {
      const place = this.place[slot]! - 1
      this.mark[place] = mark
      if (at < this.at[place]!) {
        this.at[place] = at
        this.up(place)
      }
      return
    }
    this.reserve(slot)
    const place = this.size++
    this.at[place] = at
    this.order[place] = this.orders++
    this.slot[place] = slot
    this.mark[place] = mark
    this.place[slot] = place + 1
    this.up(place)
  }

  remove(slot: number): void {
    if (!this.has(slot)) return
    const place = this.place[slot]! - 1
    this.place[slot] = 0
    const last = --this.size
    if (place === last) return
    this.move(last, place)
    this.up(place)
    this.down(this.place[this.slot[place]!]! - 1)
  }

  /** The first slot, if it is due by then; -1: none is. It stays. */
  due(now: number): number {
    return this.size > 0 && this.at[0]! <= now ? this.slot[0]! : -1
  }

  clear(): void {
    this.size = 0
    this.at = this.order = new Float64Array(0)
    this.slot = this.place = new Int32Array(0)
    this.mark = new Uint8Array(0)
  }

  private reserve(slot: number): void {
    if (slot >= this.place.length) this.place = grown(this.place, slot + 1)
    if (this.size < this.at.length) return
    this.at = grown(this.at, this.size + 1)
    this.order = grown(this.order, this.size + 1)
    this.slot = grown(this.slot, this.size + 1)
    this.mark = grown(this.mark, this.size + 1)
  }

  private isBefore(a: number, b: number): boolean {
    return this.at[a] === this.at[b] ? this.order[a]! < this.order[b]! : this.at[a]! < this.at[b]!
  }

  private up(from: number): void {
    for (let place = from; place > 0;) {
      const parent = (place - 1) >> 1
      if (!this.isBefore(place, parent)) return
      this.swap(place, parent)
      place = parent
    }
  }

  private down(from: number): void {
    for (let place = from; ;) {
      let child = 2 * place + 1
      if (child >= this.size) return
      if (child + 1 < this.size && this.isBefore(child + 1, child)) child++
      if (!this.isBefore(child, place)) return
      this.swap(place, child)
      place = child
    }
  }

  private move(from: number, to: number): void {
    this.at[to] = this.at[from]!
    this.order[to] = this.order[from]!
    this.slot[to] = this.slot[from]!
    this.mark[to] = this.mark[from]!
    this.place[this.slot[to]!] = to + 1
  }

  private swap(a: number, b: number): void {
    const at = this.at[a]!
    const order = this.order[a]!
    const slot = this.slot[a]!
    const mark = this.mark[a]!
    this.move(b, a)
    this.at[b] = at
    this.order[b] = order
    this.slot[b] = slot
    this.mark[b] = mark
    this.place[slot] = b + 1
  }
}

type Numbers = Float64Array | Int32Array | Uint8Array

/** A copy with room for `least` numbers and some more: half as much again, so that little of a large one stays empty. */
export const grown = <A extends Numbers>(array: A, least: number): A => {
  const length = Math.max(minCapacity, least, Math.ceil(array.length * 1.5))
  const larger = new (array.constructor as new (length: number) => A)(length)
  larger.set(array)
  return larger
}
