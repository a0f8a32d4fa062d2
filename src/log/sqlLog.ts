/**
 * What a database has to bring of its own for a log: the statements that differ.
 */
import type { SqlError } from "@effect/sql/SqlError"
import type * as Effect from "effect/Effect"
import type { ChangeLogError, Cursor, NewEntry, Row } from "./ChangeLog.js"
import type { Bounds } from "./position.js"

/** What is to be appended, with its data as text. */
export type TextEntry = Omit<NewEntry, "data"> & { readonly data: string | null }

/** Rows from a cursor on, in order: the one at the cursor itself too, if it is there. */
export interface Found {
  readonly rows: ReadonlyArray<Row>
  /** Whether there may be more rows right behind these. */
  readonly more: boolean
}

/** A log whose table was looked at: the statements are made for what it has. */
export interface OpenLog {
  /** The table as the database knows it, however its user has written it: the name of its marks. */
  readonly key: string
  /** Whether entries can be appended: that takes columns for entity, kind and data. */
  readonly canAppend: boolean
  /** Whether entries have a time. */
  readonly hasTime: boolean
  /** In front of every entry that there can be. */
  readonly start: Cursor
  /** Appends, and tells other processes within the same transaction, where a database has a way to. */
  readonly append: (
    entries: ReadonlyArray<TextEntry>,
    atMillis: number
  ) => Effect.Effect<ReadonlyArray<bigint>, SqlError | ChangeLogError>
  /**
   * At most `limit` rows behind the cursor, and the one that it stands behind; from the oldest without a cursor. Rows of other kinds
   * may come without data.
   */
  readonly from: (
    after: Cursor | undefined,
    limit: number,
    kinds: ReadonlyArray<string> | undefined
  ) => Effect.Effect<Found, SqlError | ChangeLogError>
  /** The bounds of the log as they concern a cursor, looked at after the rows. */
  readonly bounds: (after: Cursor | undefined) => Effect.Effect<Bounds, SqlError | ChangeLogError>
  /** The place from which on all that is committed from now on comes. */
  readonly head: Effect.Effect<Cursor, SqlError>
  readonly cursorAt: (seq: bigint) => Effect.Effect<Cursor, SqlError>
  /** The newest place that is older than `atMillis` and in front of the `keep` newest entries; none: there is no such place. */
  readonly prunable: (
    atMillis: number | undefined,
    keep: number | undefined
  ) => Effect.Effect<Cursor | undefined, SqlError>
  /** Removes at most `limit` of the oldest entries, up to and with that of `upTo`; gives the last one removed. */
  readonly removeUpTo: (
    upTo: Cursor,
    limit: number
  ) => Effect.Effect<{ readonly removed: number; readonly last: Cursor | undefined }, SqlError | ChangeLogError>
  /** Takes the lock of a writer at the begin of a transaction; none where there is no such lock. */
  readonly lock: Effect.Effect<void, SqlError> | undefined
  /**
   * Where there is no lock of a writer: lets one step of a prune at a time run, while nobody registers. Taken at the begin of a
   * transaction, or within that of the caller (`isInside`).
   */
  readonly lockToPrune?: (isInside: boolean) => Effect.Effect<void, SqlError>
  /** Keeps steps of a prune out until the transaction ends; others may register at the same time. */
  readonly lockToRegister?: Effect.Effect<void, SqlError>
}
