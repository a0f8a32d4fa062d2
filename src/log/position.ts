/**
 * What the bounds of a log say about a cursor. Plain functions of values.
 */
import type { Cursor } from "./ChangeLog.js"

/** Whether `a` is in front of `b`: by transaction where there is one, then by number. */
export const isBefore = (a: Cursor, b: Cursor): boolean => {
  if (a.xid !== undefined && b.xid !== undefined && a.xid !== b.xid) return a.xid < b.xid
  return a.seq < b.seq
}

/** Whether a row is the very entry that a cursor stands behind; of a restored log it may be another of the same number. */
export const isSame = (row: Cursor, cursor: Cursor): boolean =>
  row.seq === cursor.seq &&
  (row.xid === undefined || cursor.xid === undefined || row.xid === cursor.xid) &&
  (row.atMillis === undefined || cursor.atMillis === undefined || row.atMillis === cursor.atMillis)

/** The bounds of a log, as they were with or after the read that found no row at the cursor. */
export interface Bounds {
  /** The entry that has the number of the cursor, if there is one: in a log that nobody has tampered with, the one that was read. */
  readonly found: Cursor | undefined
  /** The last entry that was pruned. */
  readonly floor: Cursor | undefined
  /** The newest number that was ever given; `undefined`: not known. */
  readonly head: Cursor | undefined
  /** The oldest entry that is there. */
  readonly oldest: Cursor | undefined
  /** What else the database knows against going on, in words. */
  readonly why?: string | undefined
}

/** Why a reader cannot go on behind `cursor`, if it cannot. */
export const expiry = (
  cursor: Cursor,
  { floor, found, head, oldest, why }: Bounds,
  isDense: boolean
): string | undefined => {
  if (floor !== undefined && isBefore(cursor, floor)) return "it was pruned"
  if (found !== undefined && !isSame(found, cursor)) {
    return "another entry has its number now: the log was restored or made again"
  }
  if (head !== undefined && head.seq < cursor.seq) return "the log ends before it: it was restored or made again"
  if (isDense && oldest !== undefined && oldest.seq > cursor.seq + 1n)
    return "entries in front of the oldest are missing"
  return why
}
