/**
 * What the catalog of SQLite says of a table, and whether it can be read as a log: no number may be given twice, or come twice.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ChangeLogError } from "./ChangeLog.js"
import type { LogTable } from "./logTable.js"
import { quote } from "./logTable.js"

/** What the catalog says of the table. */
export interface Shape {
  readonly columns: ReadonlyMap<string, string>
  readonly isUnique: boolean
  readonly isNumber: boolean
  readonly isAutoincrement: boolean
  readonly isOurs: boolean
}

/** Names in SQLite differ by more than the case of A to Z. */
export const lower = (name: string): string => name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())

/** The schema of a table, and its name in it, as the user wrote them. */
export const partsOf = ({ name }: LogTable): readonly [schema: string, bare: string] => {
  const [first, second] = name.split(".")
  return second === undefined ? ["main", first!] : [first!, second]
}

const pragma = (table: LogTable, name: string): string => {
  const [schema, bare] = partsOf(table)
  return `PRAGMA ${quote(schema)}.${name}(${quote(bare)})`
}

export const inspect = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<Shape, SqlError> =>
  Effect.gen(function* () {
    const [schema, bare] = partsOf(table)
    type Column = {
      readonly name: string
      readonly type: string
      readonly pk: number
      readonly notnull: number
      readonly dflt_value: string | null
    }
    const columns = yield* sql.unsafe<Column>(pragma(table, "table_info"))
    const definitions = yield* sql.unsafe<{ readonly sql: string }>(
      `SELECT sql FROM ${quote(schema)}.sqlite_master WHERE type = 'table' AND lower(name) = lower(?)`,
      [bare]
    )
    const keys = columns.filter(({ pk }) => pk > 0)
    type Index = { readonly name: string; readonly unique: number; readonly partial: number }
    const indexes = yield* sql.unsafe<Index>(pragma(table, "index_list"))
    const uniques = yield* Effect.forEach(
      indexes.filter(({ partial, unique }) => unique === 1 && partial === 0),
      ({ name }) => sql.unsafe<{ readonly name: string | null }>(`PRAGMA ${quote(schema)}.index_info(${quote(name)})`)
    )
    const isSeq = (name: string | null): boolean => name !== null && lower(name) === lower(table.columns.seq)
    const seq = columns.find(({ name }) => isSeq(name))
    const isKey = keys.length === 1 && isSeq(keys[0]!.name)
    const isRowId = isKey && seq?.type.toUpperCase() === "INTEGER"
    // a word in a comment, a text or a name is not the keyword
    const definition = (definitions[0]?.sql ?? "").replace(
      /'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?\*\//g,
      " "
    )
    return {
      columns: new Map(columns.map(({ name, type }) => [lower(name), type.toUpperCase()])),
      isUnique: isKey || uniques.some((parts) => parts.length === 1 && isSeq(parts[0]!.name)),
      // what has INT in the name of its type is kept as a number; of others '10' comes in front of '9'
      isNumber: isRowId || (seq !== undefined && /INT/i.test(seq.type) && (seq.notnull === 1 || isKey)),
      isAutoincrement: isRowId && /\bAUTOINCREMENT\b/i.test(definition),
      isOurs: table.named.length === 0 && definitions[0]?.sql === ours(table)
    }
  })

/** The columns of the tables that we make. */
const definitionOf = ({ columns }: LogTable): string =>
  `(${quote(columns.seq)} INTEGER PRIMARY KEY AUTOINCREMENT, ${quote(columns.entity)} TEXT NOT NULL, ${quote(columns.kind)} TEXT NOT NULL, ${quote(columns.data)} TEXT, ${quote(columns.at)} INTEGER NOT NULL)`

/** What the catalog says of a table that we have made. */
const ours = (table: LogTable): string => `CREATE TABLE ${quote(partsOf(table)[1])} ${definitionOf(table)}`

/** Makes the table. */
export const creation = (table: LogTable): string => `CREATE TABLE IF NOT EXISTS ${table.quoted} ${definitionOf(table)}`

const refused = (log: string, reason: "MissingTable" | "UnsafeTable", sentence: string): ChangeLogError =>
  new ChangeLogError({ reason, log, message: `${log}: ${sentence}` })

/** A log is in the database that its client has opened. */
export const refusalOfPlace = (table: LogTable): ChangeLogError | undefined =>
  lower(partsOf(table)[0]) === "main"
    ? undefined
    : refused(
        table.name,
        "UnsafeTable",
        "it is in an attached database, and what is noted about it could be elsewhere for another process; open its file with a client of its own."
      )

/** Why the table cannot be read as a log, if it cannot. */
export const refusal = (table: LogTable, shape: Shape): ChangeLogError | undefined => {
  const { name } = table
  const { seq } = table.columns
  if (shape.columns.size === 0) {
    return refused(name, "MissingTable", "there is no such table; create it, or name it with `table`.")
  }
  const missing = [seq, ...table.named.map((column) => table.columns[column])].find(
    (column) => !shape.columns.has(lower(column))
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
  if (!shape.isNumber) {
    return refused(
      name,
      "UnsafeTable",
      `its column ${JSON.stringify(seq)} is no INTEGER that is NOT NULL, so its entries have another order than their numbers; make it one, or name another with \`columns.seq\`.`
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
