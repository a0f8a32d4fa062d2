/**
 * The parts of the statements for one table in PostgreSQL, and how their rows are read.
 *
 * Numbers of entries and transactions are text on their way, since they can be greater than a JavaScript number holds; what is
 * sorted and compared is the column itself, always with its table in front, lest the name mean the text.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Cursor, Row } from "./ChangeLog.js"
import type { LogTable } from "./logTable.js"
import { quote } from "./logTable.js"
import { appended, channelOf } from "./notifyChannel.js"
import { isBefore } from "./position.js"
import type { Shape } from "./postgresTable.js"
import { timeOf } from "./postgresTable.js"

export type Values = ReadonlyArray<unknown>
export type Ask = (statement: string, params?: Values) => Effect.Effect<ReadonlyArray<Values>, SqlError>

/** The oldest transaction that is open, and the first that has not begun, as this statement sees the server. */
export const xmin = "pg_snapshot_xmin(pg_current_snapshot())"
export const xmax = "pg_snapshot_xmax(pg_current_snapshot())"

/** The parts of statements that depend on the table; the log is `l` in all of them. */
export interface Statements {
  readonly key: string
  readonly from: string
  readonly seq: string
  readonly xid: string
  readonly hasXid: boolean
  /** Number, transaction and time of a row: its cursor. */
  readonly place: string
  readonly entity: string
  readonly kind: string
  readonly data: string
  readonly time: string | undefined
  readonly isOurs: boolean
  /** The last number that was given, where that is known. */
  readonly last: string
  readonly append: string | undefined
  readonly ascending: string
  readonly descending: string
  /** Compares a row with the cursor of the first two parameters. */
  readonly is: (operator: string) => string
  /** Nothing can come in front of the row any more. */
  readonly isOver: string
  /** In front of the least number and the first transaction. */
  readonly start: Cursor
  readonly least: (a: Cursor, b: Cursor) => Cursor
}

const text = (column: string): string => `${column}::text`
const literal = (value: string): string => `'${value.replaceAll("'", "''")}'`

export const makeStatements = (table: LogTable, shape: Shape): Statements => {
  const { assumeOrdered, columns, named } = table
  const has = (column: string): boolean => shape.columns.has(column)
  const typed = (column: string): string => (has(column) ? text(`l.${quote(column)}`) : "NULL")
  const [seq, xid, at] = [`l.${quote(columns.seq)}`, `l.${quote(columns.xid)}`, `l.${quote(columns.at)}`]
  const kindOfTime = timeOf(shape.columns.get(columns.at))
  // a date can be infinite, milliseconds cannot
  const dateMillis = `CASE WHEN isfinite(${at}) THEN (extract(epoch FROM ${at}) * 1000)::bigint END`
  const time = kindOfTime === undefined ? undefined : kindOfTime === "date" ? `(${dateMillis})` : `trunc(${at})`
  const own = ["seq", "xid", "entity", "kind", "data", "at"]
  const data = shape.columns.get(columns.data)
  const from = `${quote(shape.schema)}.${quote(shape.bare)}`
  const order = (direction: string): string =>
    assumeOrdered ? `${seq}${direction}` : `${xid}${direction}, ${seq}${direction}`
  const least = -(2n ** 63n)
  return {
    key: `${shape.schema}.${shape.bare}`,
    from: `${from} AS l`,
    seq,
    xid,
    hasXid: !assumeOrdered,
    place: `${text(seq)}, ${assumeOrdered ? "NULL" : text(xid)}, ${time === undefined ? "NULL" : text(time)}`,
    entity: typed(columns.entity),
    kind: typed(columns.kind),
    data:
      data === undefined
        ? "to_jsonb(l)::text"
        : data.type === "bytea"
          ? `l.${quote(columns.data)}`
          : typed(columns.data),
    time,
    isOurs: named.length === 0 && own.length === shape.columns.size && own.every(has),
    last:
      shape.sequence !== undefined
        ? // numbers may have been given without it
          `coalesce(greatest(pg_sequence_last_value(${literal(shape.sequence)}::regclass), (SELECT max(${seq}) FROM ${from} AS l)), 0)`
        : table.assumeNeverReused
          ? `coalesce((SELECT max(${seq}) FROM ${from} AS l), 0)`
          : "NULL",
    append: appending(table, shape, from),
    ascending: order(""),
    descending: order(" DESC"),
    is: (operator) =>
      assumeOrdered
        ? `($1::xid8 IS NULL AND ${seq} ${operator} $2::bigint)`
        : `(${xid}, ${seq}) ${operator} ($1::xid8, $2::bigint)`,
    isOver: assumeOrdered ? "true" : `${xid} < ${xmin}`,
    start: assumeOrdered ? { seq: least } : { seq: least, xid: 0n },
    least: (a, b) => (isBefore(a, b) ? a : b)
  }
}

/** What a failed append says where entries were left out: only a statement that fails takes the others back. */
export const leftOut = "periscope: entries kept: "

/** Appends any number of entries in their order, and tells those who listen: in one statement, so it cannot end half way. */
const appending = ({ columns, name, notify }: LogTable, shape: Shape, qualified: string): string | undefined => {
  const names = [columns.entity, columns.kind, columns.data]
  if (!names.every((column) => shape.columns.has(column))) return undefined
  const at = shape.columns.get(columns.at)
  const time = timeOf(at)
  const moment =
    time === "millis"
      ? "$4::float8"
      : `to_timestamp($4::float8 / 1000)${at?.type === "timestamp with time zone" ? "" : " AT TIME ZONE 'UTC'"}`
  const all = time === undefined ? names : [...names, columns.at]
  const given = ["e.c0", "e.c1", "e.c2", moment]
  const cast = all.map((column, index) => {
    const { type } = shape.columns.get(column)!
    if (type === "bytea") return `convert_to(${given[index]}, 'UTF8')`
    // without a length, a character is one
    return `CAST(${given[index]} AS ${type === "character" ? "bpchar" : type})`
  })
  const seq = quote(columns.seq)
  const told = notify ? `, (SELECT pg_notify(${literal(channelOf(name))}, '${appended}'))::text` : ""
  const number = `CASE WHEN kept.count = cardinality($1::text[]) THEN ${text(`added.${seq}`)} ELSE CAST('${leftOut}' || kept.count AS bigint)::text END`
  return `WITH added AS (INSERT INTO ${qualified} (${all.map(quote).join(", ")}) SELECT ${cast.join(", ")} FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS e(c0, c1, c2, n) ORDER BY e.n RETURNING ${seq})
    SELECT ${number}${told} FROM (SELECT count(*) AS count FROM added) AS kept LEFT JOIN added ON true ORDER BY added.${seq}`
}

export const numberOf = (value: unknown): bigint => BigInt(String(value))
export const isNone = (value: unknown): value is null | undefined => value === null || value === undefined

/** The first two parameters of a statement that compares. */
export const params = ({ hasXid }: Statements, { seq, xid = 0n }: Cursor): ReadonlyArray<string | null> => [
  hasXid ? String(xid) : null,
  String(seq)
]

export const cursorOf = (
  { hasXid, isOurs }: Statements,
  number: unknown,
  transaction: unknown,
  at: unknown
): Cursor => {
  const cursor = { seq: numberOf(number) }
  const placed = hasXid && !isNone(transaction) ? { ...cursor, xid: numberOf(transaction) } : cursor
  // of a table of others the time may be that of a later change
  return isOurs && !isNone(at) ? { ...placed, atMillis: Number(at) } : placed
}

const decoder = new TextDecoder()
/** Bytes are shown as the text that they are meant to be. */
const textOf = (value: unknown): string => (value instanceof Uint8Array ? decoder.decode(value) : String(value))

export const rowOf = (statements: Statements, [number, transaction, at, entity, kind, data]: Values): Row => {
  const row: { -readonly [K in keyof Row]: Row[K] } = {
    cursor: cursorOf(statements, number, transaction, at),
    entity: isNone(entity) ? "" : String(entity),
    kind: isNone(kind) ? "" : String(kind)
  }
  if (!isNone(at)) row.atMillis = Number(at)
  if (!isNone(data)) row.data = textOf(data)
  return row
}

/** The cursor of the first row of the log that the rest of a statement finds. */
export const findPlace =
  (ask: Ask, { from, hasXid, isOurs, place }: Statements) =>
  (rest: string, given: Values = []): Effect.Effect<Cursor | undefined, SqlError> =>
    Effect.map(ask(`SELECT ${place} FROM ${from} ${rest}`, given), ([row]) =>
      row === undefined ? undefined : cursorOf({ hasXid, isOurs } as Statements, row[0], row[1], row[2])
    )
