/**
 * What a socket has received and what has become of it: which keys are open and which are done, and what each item that comes
 * again is bound to.
 *
 * Plain data. It holds what is in flight, whose number and bytes are counted, and the last keys that were done.
 */

/** One item in flight. */
export interface Entry<A> {
  readonly item: A
  readonly key: string | undefined
  /** What it is kept in order with; `undefined`: with nothing. */
  readonly order: string | undefined
  readonly bytes: number
  /** The connection that it was last received on. */
  connection: number
  /** That it was received with: the id in it is of that connection. */
  received: A
  /** The same item received once more on that connection. */
  again: Array<A> | undefined
  isFinished: boolean
  /** Whether its key is known once it is done. */
  readonly isRemembered: boolean
  /** Entries of an earlier consumer count no more. */
  readonly era: number
}

/** What to do with a received item: an entry is to be handed out; `open`: it is already, `done`: it was, and is to be acked. */
export type Offered<A> = Entry<A> | "open" | "done"

export class Window<A> {
  private readonly open = new Map<string, Entry<A>>()
  /** Two generations of keys: the last `size` are in one of them, and never more than twice as many. */
  private young = new Set<string>()
  private old = new Set<string>()
  /** Items in flight. */
  entries = 0
  /** The same, those that were received again counted once more. */
  count = 0
  /** Of their frames. */
  bytes = 0
  private era = 0

  /** `isSame`: whether one ack is enough for two of the same key and connection. */
  constructor(
    private readonly size: number,
    private readonly isSame: (one: A, other: A) => boolean
  ) {}

  offer(
    item: A,
    key: string | undefined,
    order: string | undefined,
    bytes: number,
    connection: number,
    isRemembered = true
  ): Offered<A> {
    if (key !== undefined) {
      if (this.young.has(key) || this.old.has(key)) return "done"
      const known = this.open.get(key)
      if (known !== undefined) {
        this.bind(known, item, connection)
        return "open"
      }
    }
    const entry: Entry<A> = {
      item,
      key,
      order,
      bytes,
      connection,
      received: item,
      again: undefined,
      isFinished: false,
      isRemembered,
      era: this.era
    }
    if (key !== undefined) this.open.set(key, entry)
    this.entries++
    this.count++
    this.bytes += bytes
    return entry
  }

  /** Ids of one connection mean nothing on another. */
  private bind(entry: Entry<A>, item: A, connection: number): void {
    if (entry.connection === connection) {
      if (this.isSame(entry.received, item) || entry.again?.some((other) => this.isSame(other, item)) === true) return
      if (entry.again === undefined) entry.again = [item]
      else entry.again.push(item)
      this.count++
      return
    }
    this.count -= entry.again?.length ?? 0
    entry.again = undefined
    entry.connection = connection
    entry.received = item
  }

  /** It is done: the same key is not handed out again, if it is one to be remembered. False: it was finished before. */
  finish(entry: Entry<A>): boolean {
    if (!this.leave(entry)) return false
    if (entry.key !== undefined && entry.isRemembered) this.remember(entry.key)
    return true
  }

  /** It is forgotten: the same key is handed out again. False: it was finished before. */
  forget(entry: Entry<A>): boolean {
    return this.leave(entry)
  }

  private leave(entry: Entry<A>): boolean {
    if (entry.isFinished || entry.era !== this.era) return false
    entry.isFinished = true
    if (entry.key !== undefined) this.open.delete(entry.key)
    this.entries--
    this.count -= 1 + (entry.again?.length ?? 0)
    this.bytes -= entry.bytes
    return true
  }

  private remember(key: string): void {
    if (this.size === 0) return
    if (this.young.size >= this.size) {
      this.old = this.young
      this.young = new Set()
    }
    this.young.add(key)
  }

  /** Forgets all that is in flight; what is done stays known. */
  clear(): void {
    this.era++
    this.open.clear()
    this.entries = 0
    this.count = 0
    this.bytes = 0
  }
}
