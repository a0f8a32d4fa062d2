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
import type { Bounds } from "./position.js"
import type { OpenLog } from "./sqlLog.js"

/** The least number that a row can have. */
const least = -(2n ** 63n)
const busyMillis = 5000

/** What the catalog says of the table. */
interface Shape {
  readonly columns: ReadonlyMap<string, string>
  readonly isUnique: boolean
  readonly isAutoincrement: boolean
  readonly isOurs: boolean
}

type Values = ReadonlyArray<unknown>

/** Writers of other processes are waited for; some drivers do not do that by default. */
const waitForWriters = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError> =>
  Effect.flatMap(sql.unsafe("PRAGMA busy_timeout").values, (rows) =>
    Number((rows[0] as Values | undefined)?.[0] ?? 0) > 0
      ? Effect.void
      : Effect.asVoid(sql.unsafe(`PRAGMA busy_timeout = ${busyMillis}`))
  )

const create = (sql: SqlClient.SqlClient, { columns, quoted }: LogTable): Effect.Effect<void, SqlError> =>
  Effect.zipRight(
    sql.unsafe(
      `CREATE TABLE IF NOT EXISTS ${quoted} (${quote(columns.seq)} INTEGER PRIMARY KEY AUTOINCREMENT, ${quote(columns.entity)} TEXT NOT NULL, ${quote(columns.kind)} TEXT NOT NULL, ${quote(columns.data)} TEXT, ${quote(columns.at)} INTEGER NOT NULL)`
    ),
    consumers.create(sql)
  )

const pragma = (table: LogTable, name: string): string => {
  const [schema, bare] = table.name.includes(".") ? table.name.split(".") : ["main", table.name]
  return `PRAGMA ${quote(schema!)}.${name}(${quote(bare!)})`
}

const inspect = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<Shape, SqlError> =>
  Effect.gen(function* () {
    const bare = table.name.split(".").at(-1)!
    const schema = table.name.includes(".") ? table.name.split(".")[0]! : "main"
    type Column = { readonly name: string; readonly type: string; readonly pk: number }
    const columns = yield* sql.unsafe<Column>(pragma(table, "table_info"))
    const definitions = yield* sql.unsafe<{ readonly sql: string }>(
      `SELECT sql FROM ${quote(schema)}.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)`,
      [bare]
    )
    const keys = columns.filter(({ pk }) => pk > 0)
    const indexes = yield* sql.unsafe<{ readonly name: string; readonly unique: number }>(pragma(table, "index_list"))
    const uniques = yield* Effect.forEach(
      indexes.filter(({ unique }) => unique === 1),
      ({ name }) => sql.unsafe<{ readonly name: string }>(`PRAGMA ${quote(schema)}.index_info(${quote(name)})`)
    )
    const isSeq = (name: string): boolean => name.toLowerCase() === table.columns.seq.toLowerCase()
    // a word in a comment or a text is not the keyword
    const definition = (definitions[0]?.sql ?? "").replace(/'[^']*'|--[^\n]*|\/\*[\s\S]*?\*\//g, "")
    return {
      columns: new Map(columns.map(({ name, type }) => [name.toLowerCase(), type.toUpperCase()])),
      isUnique:
        (keys.length === 1 && isSeq(keys[0]!.name)) ||
        uniques.some((parts) => parts.length === 1 && isSeq(parts[0]!.name)),
      isAutoincrement: keys.length === 1 && isSeq(keys[0]!.name) && /\bAUTOINCREMENT\b/i.test(definition),
      isOurs: table.named.length === 0 && ["seq", "entity", "kind", "data", "at"].length === columns.length
    }
  })

const refused = (log: string, reason: "MissingTable" | "UnsafeTable", sentence: string): ChangeLogError =>
  new ChangeLogError({ reason, log, message: `${log}: ${sentence}` })

/** Why the table cannot be read as a log, if it cannot. */
const refusal = (table: LogTable, shape: Shape): ChangeLogError | undefined => {
  const { name } = table
  const { seq } = table.columns
  if (shape.columns.size === 0) {
    return refused(name, "MissingTable", "there is no such table; create it, or name it with `table`.")
  }
  const missing = [seq, ...table.named.map((column) => table.columns[column])].find(
    (column) => !shape.columns.has(column.toLowerCase())
  )
  if (missing !== undefined) {
    return refused(
      name,
      "MissingTable",
      `it has no column ${JSON.stringify(missing)}; name its columns with \`columns\`.`
    )
  }
  if (!shape.isUnique) {
    return refused(
      name,
      "UnsafeTable",
      `its column ${JSON.stringify(seq)} is neither its primary key nor unique, so entries could be missed; make it one, or name another with \`columns.seq\`.`
    )
  }
  if (!shape.isAutoincrement && !table.assumeNeverReused) {
    return refused(
      name,
      "UnsafeTable",
      `its column ${JSON.stringify(seq)} is no INTEGER PRIMARY KEY AUTOINCREMENT: when the newest rows are deleted, SQLite gives their numbers again, and those entries would be missed; make it one, or set \`assumeNeverReused\` if nobody ever deletes the newest rows.`
    )
  }
  return undefined
}

const numberOf = (value: unknown): bigint =>
  typeof value === "bigint" ? value : BigInt(typeof value === "number" ? Math.trunc(value) : String(value))

/** A time in any of the forms that tables have: milliseconds, or a date as text. */
const millisOf = (value: unknown): number | undefined => {
  const millis = typeof value === "string" ? Date.parse(value) : Number(value ?? Number.NaN)
  return Number.isNaN(millis) ? undefined : millis
}

const decoder = new TextDecoder()

/** Bytes are shown as the text that they are meant to be. */
const textOf = (value: unknown): string | undefined =>
  value === null || value === undefined
    ? undefined
    : value instanceof ArrayBuffer || value instanceof Uint8Array
      ? decoder.decode(value)
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
    if (table.create) yield* create(sql, table)
    const shape = yield* inspect(sql, table)
    const problem = refusal(table, shape)
    return problem === undefined ? make(sql, table, shape) : yield* problem
  })

const make = (sql: SqlClient.SqlClient, table: LogTable, shape: Shape): OpenLog => {
  const has = (column: string): boolean => shape.columns.has(column.toLowerCase())
  const column = (name: string): string => (has(name) ? quote(name) : "NULL")
  const { columns, name, quoted } = table
  const seq = quote(columns.seq)
  const data = has(columns.data) ? quote(columns.data) : wholeRow(shape.columns.keys())
  const schema = quote(name.includes(".") ? name.split(".")[0]! : "main")
  const bare = name.split(".").at(-1)!
  const values = (statement: string, params: Values = []): Effect.Effect<ReadonlyArray<Values>, SqlError> =>
    sql.unsafe(statement, params as Array<unknown>).values as Effect.Effect<ReadonlyArray<Values>, SqlError>

  // of a table of others the time may be that of a later change
  const marked = ({ atMillis, seq }: Cursor): Cursor =>
    shape.isOurs && atMillis !== undefined ? { seq, atMillis } : { seq }

  const rowOf = (row: Values): Row => {
    const [number, at, entity, kind, text] = row
    const atMillis = at === null || at === undefined ? undefined : millisOf(at)
    const found: { -readonly [K in keyof Row]: Row[K] } = {
      cursor: marked({ seq: numberOf(number), atMillis }),
      entity: textOf(entity) ?? "",
      kind: textOf(kind) ?? ""
    }
    if (atMillis !== undefined) found.atMillis = atMillis
    if (text !== null) found.data = textOf(text)
    return found
  }

  const selection = (number: string, kinds: number): string => {
    const isWanted = `${column(columns.kind)} IN (${Array(kinds).fill("?").join(", ")})`
    const shown = kinds === 0 ? data : `CASE WHEN ${isWanted} THEN ${data} END`
    return `SELECT ${number}, ${column(columns.at)}, ${column(columns.entity)}, ${column(columns.kind)}, ${shown} FROM ${quoted} WHERE ${seq} >= ? ORDER BY ${seq} LIMIT `
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
  const newest = place(`${places} ORDER BY ${seq} DESC LIMIT 1`)
  const given = place(`SELECT CAST(seq AS TEXT), NULL FROM ${schema}.sqlite_sequence WHERE lower(name) = lower(?)`, [
    bare
  ])
  const key = schema === quote("main") ? bare.toLowerCase() : name.toLowerCase()
  const floor = consumers.floor(sql, key)
  const nothing: Cursor = { seq: 0n }

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
            : yield* place(`${places} WHERE ${column(columns.at)} >= ? ORDER BY ${seq} LIMIT 1`, [
                BigInt(Math.ceil(atMillis))
              ])
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
