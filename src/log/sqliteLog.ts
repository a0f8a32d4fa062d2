/**
 * A log in SQLite. Writers take turns, so entries become visible in the order of their numbers; with AUTOINCREMENT no number is ever
 * given twice.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Cursor, Row } from "./ChangeLog.js"
import { ChangeLogError } from "./ChangeLog.js"
import * as consumers from "./consumers.js"
import type { LogTable } from "./logTable.js"
import { quote } from "./logTable.js"
import { isStorable, textOfBytes } from "./bytes.js"
import type { Bounds } from "./position.js"
import { isBefore } from "./position.js"
import type { Shape } from "./sqliteTable.js"
import { creation, inspect, lower, partsOf, refusal, refusalOfPlace } from "./sqliteTable.js"
import type { OpenLog } from "./sqlLog.js"
import { inTransaction } from "./sqlTransaction.js"

/** The least number that a row can have. */
const least = -(2n ** 63n)
const busyMillis = 5000

type Values = ReadonlyArray<unknown>

/** Writers of other processes are waited for; some drivers do not do that by default. */
const waitForWriters = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.flatMap(sql.unsafe("PRAGMA busy_timeout").values, (rows) =>
    Number((rows[0] as Values | undefined)?.[0] ?? 0) > 0
      ? Effect.void
      : Effect.asVoid(sql.unsafe(`PRAGMA busy_timeout = ${busyMillis}`))
  )

/** Makes the table where it is missing. What was noted of an earlier one of its name is not true of the new one. */
const create = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const [, bare] = partsOf(table)
    yield* consumers.create(sql)
    const found = yield* sql.unsafe(
      "SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)",
      [bare]
    )
    if (found.length > 0) return
    yield* inTransaction(sql, Effect.zipRight(sql.unsafe(creation(table)), consumers.forget(sql, lower(bare))))
  })

const numberOf = (value: unknown): bigint =>
  typeof value === "bigint" ? value : BigInt(typeof value === "number" ? Math.trunc(value) : String(value))

/** A time in any of the forms that tables have: milliseconds, or a date as text. */
const millisOf = (value: unknown): number | undefined => {
  // without a zone a date is of UTC, as SQLite's own functions write and read it
  const text = typeof value === "string" && /^\d{4}-\d\d-\d\d[ T][\d:.]+$/.test(value) ? `${value}Z` : value
  const millis = typeof text === "string" ? Date.parse(text) : Number(text ?? Number.NaN)
  return Number.isNaN(millis) ? undefined : millis
}

const textOf = (value: unknown): string | undefined =>
  value === null || value === undefined
    ? undefined
    : value instanceof ArrayBuffer
      ? textOfBytes(new Uint8Array(value))
      : value instanceof Uint8Array
        ? textOfBytes(value)
        : String(value)

/** The whole row as JSON, where no column holds the data. */
const wholeRow = (columns: Iterable<string>): string => {
  const fields = Array.from(columns, (column) => {
    const name = quote(column)
    return `'${column.replaceAll("'", "''")}', CASE typeof(${name}) WHEN 'blob' THEN hex(${name}) ELSE ${name} END`
  })
  return `json_object(${fields.join(", ")})`
}

/** Opens the table; makes it first if that is wanted. */
export const open = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<OpenLog, ChangeLogError | SqlError> =>
  Effect.gen(function* () {
    yield* waitForWriters(sql)
    const outside = refusalOfPlace(table)
    if (outside !== undefined) return yield* outside
    if (table.create) yield* create(sql, table)
    const shape = yield* inspect(sql, table)
    const problem = refusal(table, shape)
    return problem === undefined ? make(sql, table, shape) : yield* problem
  })

const make = (sql: SqlClient.SqlClient, table: LogTable, shape: Shape): OpenLog => {
  const has = (column: string): boolean => shape.columns.has(lower(column))
  const column = (name: string): string => (has(name) ? quote(name) : "NULL")
  const { columns, quoted } = table
  const seq = quote(columns.seq)
  /** As text where it could be a whole number, which a driver would cut at 2^53. */
  const exact = (name: string): string => {
    const type = shape.columns.get(lower(name))
    if (type === undefined) return "NULL"
    const cut = `CASE typeof(${quote(name)}) WHEN 'integer' THEN CAST(${quote(name)} AS TEXT) ELSE ${quote(name)} END`
    return /CHAR|CLOB|TEXT/.test(type) ? quote(name) : cut
  }
  const [entity, kind] = [exact(columns.entity), exact(columns.kind)]
  const data = has(columns.data) ? exact(columns.data) : wholeRow(shape.columns.keys())
  const [, bare] = partsOf(table)
  const values = (statement: string, params: Values = []): Effect.Effect<ReadonlyArray<Values>, SqlError> =>
    sql.unsafe(statement, params as Array<unknown>).values as Effect.Effect<ReadonlyArray<Values>, SqlError>

  // of a table of others the time may be that of a later change
  const marked = ({ atMillis, seq }: Cursor): Cursor =>
    shape.isOurs && atMillis !== undefined ? { seq, atMillis } : { seq }

  const rowOf = (row: Values): Row => {
    const [number, at, ofEntity, ofKind, text] = row
    const atMillis = at === null || at === undefined ? undefined : millisOf(at)
    const seq = numberOf(number)
    const found: { -readonly [K in keyof Row]: Row[K] } = {
      cursor: shape.isOurs && atMillis !== undefined ? { seq, atMillis } : { seq },
      entity: textOf(ofEntity) ?? "",
      kind: textOf(ofKind) ?? ""
    }
    if (atMillis !== undefined) found.atMillis = atMillis
    if (text !== null) found.data = textOf(text)
    return found
  }

  const selection = (number: string, kinds: number): string => {
    const isWanted = `${kind} IN (${Array(kinds).fill("?").join(", ")})`
    const shown = kinds === 0 ? data : `CASE WHEN ${isWanted} THEN ${data} END`
    return `SELECT ${number}, ${column(columns.at)}, ${entity}, ${kind}, ${shown} FROM ${quoted} WHERE ${seq} >= ? ORDER BY ${seq} LIMIT `
  }

  const from: OpenLog["from"] = (after, limit, kinds = []) =>
    Effect.gen(function* () {
      const size = after === undefined ? limit : limit + 1
      const params = [...kinds, after?.seq ?? least]
      const fast = yield* values(`${selection(seq, kinds.length)}${size}`, params)
      const last = fast[fast.length - 1]?.[0]
      // most drivers give numbers, which end at 2^53
      const isCut = typeof last === "number" && !Number.isSafeInteger(last)
      const first = fast[0]?.[0]
      const isLow = typeof first === "number" && !Number.isSafeInteger(first)
      const rows =
        isCut || isLow ? yield* values(`${selection(`CAST(${seq} AS TEXT)`, kinds.length)}${size}`, params) : fast
      return { rows: rows.map(rowOf), more: rows.length >= size }
    })

  const place = (statement: string, params: Values = []): Effect.Effect<Cursor | undefined, SqlError> =>
    Effect.map(values(statement, params), ([row]) => {
      if (row === undefined || row[0] === null || row[0] === undefined) return undefined
      return marked({ seq: numberOf(row[0]), atMillis: millisOf(row[1]) })
    })
  const places = `SELECT CAST(${seq} AS TEXT), ${column(columns.at)} FROM ${quoted}`
  const time = column(columns.at)
  // dates are text in some tables; of an unknown time an entry counts as young
  const millis = `coalesce(CASE typeof(${time}) WHEN 'text' THEN (julianday(${time}) - 2440587.5) * 86400000 ELSE ${time} END, 9e18)`
  const newest = place(`${places} ORDER BY ${seq} DESC LIMIT 1`)
  const given = place(`SELECT CAST(seq AS TEXT), NULL FROM main.sqlite_sequence WHERE lower(name) = lower(?)`, [bare])
  const key = lower(bare)
  const nothing: Cursor = { seq: 0n }
  // a mark above every number that was given is of another table of this name
  const floor = Effect.gen(function* () {
    const mark = yield* consumers.floor(sql, key)
    if (mark === undefined || !shape.isAutoincrement) return mark
    return isBefore((yield* given) ?? nothing, mark) ? undefined : mark
  })

  return {
    key,
    start: { seq: least },
    from,
    bounds: (after) =>
      Effect.gen(function* () {
        const bounds: Bounds = {
          found: after === undefined ? undefined : yield* place(`${places} WHERE ${seq} = ?`, [after.seq]),
          floor: yield* floor,
          head: shape.isAutoincrement ? ((yield* given) ?? nothing) : yield* newest,
          oldest: yield* place(`${places} ORDER BY ${seq} LIMIT 1`)
        }
        return bounds
      }),
    head: Effect.gen(function* () {
      return (yield* newest) ?? (shape.isAutoincrement ? yield* given : undefined) ?? (yield* floor) ?? nothing
    }),
    cursorAt: (number) =>
      Effect.map(place(`${places} WHERE ${seq} = ?`, [number]), (found) => found ?? { seq: number }),
    prunable: (atMillis, keep) =>
      Effect.gen(function* () {
        const young =
          atMillis === undefined
            ? undefined
            : yield* place(`${places} WHERE ${millis} >= ? ORDER BY ${seq} LIMIT 1`, [BigInt(Math.ceil(atMillis))])
        const kept =
          keep === undefined ? undefined : yield* place(`${places} ORDER BY ${seq} DESC LIMIT 1 OFFSET ${keep}`)
        if (keep !== undefined && kept === undefined) return undefined
        const conditions = [
          ...(young === undefined ? [] : [`${seq} < ${young.seq}`]),
          ...(kept === undefined ? [] : [`${seq} <= ${kept.seq}`])
        ]
        const where = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`
        return yield* place(`${places}${where} ORDER BY ${seq} DESC LIMIT 1`)
      }),
    removeUpTo: (upTo, limit) =>
      Effect.gen(function* () {
        const [found] = yield* values(
          `SELECT CAST(max(number) AS TEXT), count(*) FROM (SELECT ${seq} AS number FROM ${quoted} WHERE ${seq} <= ? ORDER BY ${seq} LIMIT ${limit})`,
          [upTo.seq]
        )
        const [last, count] = found ?? []
        if (last === null || last === undefined) return { removed: 0, last: undefined }
        yield* values(`DELETE FROM ${quoted} WHERE ${seq} <= ?`, [numberOf(last)])
        return { removed: Number(count), last: { seq: numberOf(last) } }
      }),
    append: (entries, atMillis) => {
      if (!entries.every(({ entity, kind }) => isStorable(entity) && isStorable(kind))) {
        return Effect.fail(
          new ChangeLogError({
            reason: "Rejected",
            log: table.name,
            message: `${table.name}: append: a NUL character or half a surrogate pair in an entity or kind cannot be stored; encode it first.`
          })
        )
      }
      return Effect.gen(function* () {
        const appended: Array<bigint> = []
        const names = [columns.entity, columns.kind, columns.data, ...(has(columns.at) ? [columns.at] : [])]
        const marks = `(${names.map(() => "?").join(", ")})`
        for (let index = 0; index < entries.length; index += maxRows) {
          const part = entries.slice(index, index + maxRows)
          const params = part.flatMap(({ data, entity, kind }) =>
            has(columns.at) ? [entity, kind, data, BigInt(atMillis)] : [entity, kind, data]
          )
          const given = yield* values(
            `INSERT INTO ${quoted} (${names.map(quote).join(", ")}) VALUES ${part.map(() => marks).join(", ")} RETURNING CAST(${seq} AS TEXT)`,
            params
          )
          for (const [number] of given) appended.push(numberOf(number))
        }
        return appended.sort((a, b) => (a < b ? -1 : 1))
      })
    },
    // a statement that may write begins a writer's transaction, whether it finds something or not
    lock: Effect.asVoid(values(`DELETE FROM ${quoted} WHERE 0`)),
    hasTime: has(columns.at),
    canAppend: [columns.entity, columns.kind, columns.data].every(has)
  }
}

/** Rows of one statement; SQLite takes 999 parameters at least. */
const maxRows = 200
