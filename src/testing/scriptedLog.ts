/**
 * The table behind a scripted change log: its transactions, and what each database shows of them, as plain code.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Consumer, Cursor, NewEntry, Row } from "../log/ChangeLog.js"

/** An entry to write; `text` is its data as it is stored, JSON or not, instead of `data`. */
export interface Entry extends NewEntry {
  readonly text?: string | undefined
}

/** A transaction that is open: its entries have their numbers, and nobody sees them. */
export interface Transaction {
  /** Gives the number of the entry. */
  readonly append: (entry: Entry) => bigint
  readonly commit: () => void
  readonly rollback: () => void
}

/** By transaction where there is one, then by number. */
export const compare = (a: Cursor, b: Cursor): number => {
  const [left, right] = a.xid !== undefined && b.xid !== undefined && a.xid !== b.xid ? [a.xid, b.xid] : [a.seq, b.seq]
  return left < right ? -1 : left > right ? 1 : 0
}

const isNumber = (a: Cursor, b: Cursor): boolean => a.seq === b.seq

/** Whether it is the very entry, as a database can tell: by its transaction and its time. */
const isSame = (a: Cursor, b: Cursor): boolean =>
  (a.xid === undefined || b.xid === undefined || a.xid === b.xid) &&
  (a.atMillis === undefined || b.atMillis === undefined || a.atMillis === b.atMillis)

/** The time of the program that calls; there is none outside of a fiber. */
const now = (): number =>
  Option.match(Fiber.getCurrentFiber(), {
    onNone: () => 0,
    onSome: (fiber) => Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()
  })

export class Table {
  readonly consumers = new Map<string, Consumer>()
  /** The last entry that was pruned. */
  floor: Cursor | undefined
  /** The last number that was given, as others see it: in SQLite with its commit, in PostgreSQL at once. */
  last = 0n
  private rows: ReadonlyArray<Row> = []
  private xids = 0n
  private readonly open = new Set<bigint>()
  private seen: ReadonlyArray<Row> | undefined
  // no two entries have the same time: a restored log is told from the one before by it
  private latest = 0

  constructor(
    readonly name: string,
    readonly order: "sqlite" | "postgres",
    private readonly onCommit: () => void
  ) {}

  private get isOrdered(): boolean {
    return this.order === "sqlite"
  }

  /** The oldest transaction that is open, or the next one. */
  private get horizon(): bigint {
    let least = this.xids + 1n
    for (const xid of this.open) if (xid < least) least = xid
    return least
  }

  get committed(): ReadonlyArray<Row> {
    return [...this.rows].sort((a, b) => (a.cursor.seq < b.cursor.seq ? -1 : 1))
  }

  get visible(): ReadonlyArray<Row> {
    if (this.seen === undefined) {
      const { horizon } = this
      this.seen = this.rows
        .filter(({ cursor }) => cursor.xid === undefined || cursor.xid < horizon)
        .sort((a, b) => compare(a.cursor, b.cursor))
    }
    return this.seen
  }

  begin(): Transaction {
    if (this.isOrdered && this.open.size > 0) {
      throw new Error(`ScriptedChangeLog: a transaction of ${this.name} is open; SQLite has one at a time.`)
    }
    const xid = ++this.xids
    let { last } = this
    const rows: Array<Row> = []
    this.open.add(xid)
    this.seen = undefined
    const end = (): boolean => {
      const isOpen = this.open.delete(xid)
      this.seen = undefined
      return isOpen
    }
    return {
      append: ({ data, entity, kind, text }) => {
        if (!this.open.has(xid)) throw new Error(`ScriptedChangeLog: a transaction of ${this.name} has ended.`)
        const seq = this.isOrdered ? ++last : ++this.last
        const atMillis = (this.latest = Math.max(now(), this.latest + 1))
        const cursor = this.isOrdered ? { seq, atMillis } : { seq, xid }
        const stored = text ?? (data === undefined ? undefined : JSON.stringify(data))
        rows.push({ cursor, entity, kind, atMillis, ...(stored === undefined ? {} : { data: stored }) })
        return seq
      },
      commit: () => {
        if (!end()) return
        if (this.isOrdered) this.last = last
        this.rows = [...this.rows, ...rows]
        this.onCommit()
      },
      rollback: () => void end()
    }
  }

  get start(): Cursor {
    return this.floor ?? (this.isOrdered ? { seq: 0n } : { seq: 0n, xid: 0n })
  }

  get head(): Cursor {
    if (!this.isOrdered) return { seq: this.last, xid: this.horizon - 1n }
    return this.visible[this.visible.length - 1]?.cursor ?? this.floor ?? { seq: this.last }
  }

  cursorAt(seq: bigint): Cursor {
    if (this.isOrdered) return this.visible.find(({ cursor }) => cursor.seq === seq)?.cursor ?? { seq }
    let { horizon } = this
    for (const { cursor } of this.rows) if (cursor.seq > seq && cursor.xid! < horizon) horizon = cursor.xid!
    return { seq, xid: horizon - 1n }
  }

  /** Why nothing can be read behind a cursor, if so. */
  expiry(after: Cursor): string | undefined {
    const found = this.rows.find(({ cursor }) => isNumber(cursor, after))
    // where a cursor stands between transactions, its number says nothing
    if (this.isOrdered && found !== undefined && !isSame(found.cursor, after)) {
      return "another entry has its number now: the log was restored or made again"
    }
    if (this.floor !== undefined && compare(after, this.floor) < 0) return "it was pruned"
    if (this.last < after.seq) return "the log ends before it: it was restored or made again"
    return undefined
  }

  /** Removes what is visible up to a place. Gives how many entries that were. */
  remove(upTo: Cursor): number {
    const gone = this.visible.filter(({ cursor }) => compare(cursor, upTo) <= 0)
    const last = gone[gone.length - 1]
    if (last === undefined) return 0
    const removed = new Set(gone)
    this.rows = this.rows.filter((row) => !removed.has(row))
    this.floor = last.cursor
    this.seen = undefined
    return gone.length
  }

  backup(): () => void {
    const { floor, last, rows, xids } = this
    const consumers = [...this.consumers]
    return () => {
      this.floor = floor
      this.last = last
      this.rows = rows
      this.xids = xids
      this.open.clear()
      this.seen = undefined
      this.consumers.clear()
      for (const [name, consumer] of consumers) this.consumers.set(name, consumer)
    }
  }
}
