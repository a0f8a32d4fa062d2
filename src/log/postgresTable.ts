/**
 * What the catalog of PostgreSQL says of the table of a log: whether the order in which its entries become visible is known.
 *
 * A table is taken when each entry bears the number of the transaction that wrote it, given by the server, or when its user vouches
 * for the order. Views, foreign tables and partitioned tables are not taken: their catalog does not tell.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ChangeLogError } from "./ChangeLog.js"
import * as consumers from "./consumers.js"
import type { Columns, LogTable } from "./logTable.js"
import { quote } from "./logTable.js"
import { makeTables } from "./makeTables.js"
import { channelOf } from "./notifyChannel.js"

/** A column: its type without precision, and what it is when nothing is given. */
export interface Column {
  readonly type: string
  readonly isRequired: boolean
  readonly fallback: string | undefined
}

/** What the catalog says of the table. */
export interface Shape {
  readonly schema: string
  readonly bare: string
  /** As in `pg_class`: `r` is an ordinary table. */
  readonly kind: string
  readonly hasChildren: boolean
  readonly columns: ReadonlyMap<string, Column>
  /** The columns of its valid and total indexes that can be read in order. */
  readonly indexes: ReadonlyArray<{ readonly isUnique: boolean; readonly columns: ReadonlyArray<string> }>
  /** The sequence of the numbers, if it can be asked. */
  readonly sequence: string | undefined
}

type Values = ReadonlyArray<unknown>

/**
 * A default does not keep others from giving a transaction of their own: logical replication and a restored dump bring those of
 * another server, in front of what was read. Their inserts run only triggers that are always enabled.
 */
const giveTransaction = ({ columns, name, quoted }: LogTable): ReadonlyArray<string> => {
  const given = quote(channelOf(name))
  const makes = [...name.split(".").slice(0, -1).map(quote), given].join(".")
  return [
    `CREATE OR REPLACE FUNCTION ${makes}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.${quote(columns.xid)} := pg_catalog.pg_current_xact_id(); RETURN NEW; END'`,
    `CREATE TRIGGER ${given} BEFORE INSERT ON ${quoted} FOR EACH ROW EXECUTE FUNCTION ${makes}()`,
    `ALTER TABLE ${quoted} ENABLE ALWAYS TRIGGER ${given}`
  ]
}

/** Makes the table, its index and its trigger where they are missing; any number of processes may do so at once. */
export const create = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<void, SqlError> => {
  const { columns, quoted } = table
  const [seq, entity, kind, data, at, xid] = [
    columns.seq,
    columns.entity,
    columns.kind,
    columns.data,
    columns.at,
    columns.xid
  ].map(quote)
  return Effect.zipRight(
    makeTables(
      sql,
      [quoted],
      [
        `CREATE TABLE IF NOT EXISTS ${quoted} (${seq} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ${xid} xid8 NOT NULL DEFAULT pg_current_xact_id(), ${entity} text NOT NULL, ${kind} text NOT NULL, ${data} text, ${at} timestamptz NOT NULL DEFAULT clock_timestamp())`,
        `CREATE INDEX ON ${quoted} (${xid}, ${seq})`,
        ...giveTransaction(table)
      ]
    ),
    consumers.create(sql)
  )
}

/** Asks the catalog; `undefined`: there is no such table. */
export const inspect = (sql: SqlClient.SqlClient, table: LogTable): Effect.Effect<Shape | undefined, SqlError> =>
  Effect.gen(function* () {
    const ask = (statement: string, params: Values): Effect.Effect<ReadonlyArray<Values>, SqlError> =>
      sql.unsafe(statement, params as Array<unknown>).values as Effect.Effect<ReadonlyArray<Values>, SqlError>
    const [found] = yield* ask(
      `SELECT c.oid::text, n.nspname::text, c.relname::text, c.relkind::text, EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)::text
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`,
      [table.quoted]
    )
    if (found === undefined) return undefined
    const [oid, schema, bare, kind, hasChildren] = found as ReadonlyArray<string>
    const columns = yield* ask(
      `SELECT a.attname::text, format_type(a.atttypid, NULL), a.attnotnull::text, pg_get_expr(d.adbin, d.adrelid)
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
      [oid]
    )
    // both columns in one direction: such an index can be read forwards or backwards
    const indexes = yield* ask(
      `SELECT i.indisunique::text, (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts)::text
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
        WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree'
          AND (i.indnkeyatts = 1 OR (i.indoption[0] & 1) = (i.indoption[1] & 1))`,
      [oid]
    )
    const names = new Map(
      columns.map(([name, type, isRequired, fallback]) => [
        String(name),
        {
          type: String(type),
          isRequired: isRequired === "true",
          fallback: fallback === null ? undefined : String(fallback)
        }
      ])
    )
    const qualified = `${quote(schema!)}.${quote(bare!)}`
    const [sequence] = !names.has(table.columns.seq)
      ? []
      : yield* ask(
          `SELECT s FROM pg_get_serial_sequence($1, $2) AS s WHERE s IS NOT NULL AND has_sequence_privilege(s, 'USAGE, SELECT')`,
          [qualified, table.columns.seq]
        )
    return {
      schema: schema!,
      bare: bare!,
      kind: kind!,
      hasChildren: hasChildren === "true",
      columns: names,
      indexes: indexes.map(([isUnique, columns]) => ({
        isUnique: isUnique === "true",
        columns: columns === null ? [] : (JSON.parse(String(columns)) as ReadonlyArray<string>)
      })),
      sequence: sequence === undefined ? undefined : String(sequence[0])
    }
  })

const kinds: Readonly<Record<string, string>> = {
  v: "a view",
  m: "a materialized view",
  f: "a foreign table",
  p: "a partitioned table",
  S: "a sequence",
  i: "an index",
  c: "a type"
}

const integers = new Set(["smallint", "integer", "bigint"])
const dates = new Set(["timestamp with time zone", "timestamp without time zone", "date"])
const numbers = new Set([...integers, "numeric", "double precision", "real"])

/** How a column tells the time, if it can. */
export const timeOf = (column: Column | undefined): "date" | "millis" | undefined =>
  column === undefined ? undefined : dates.has(column.type) ? "date" : numbers.has(column.type) ? "millis" : undefined

const isGiven = ({ fallback = "" }: Column): boolean => /^(pg_catalog\.)?pg_current_xact_id\(\)$/.test(fallback)

const beginsWith = (columns: ReadonlyArray<string>, start: ReadonlyArray<string>): boolean =>
  start.every((name, index) => columns[index] === name)

/** Why the table cannot be read as a log, if it cannot. */
export const refusal = (table: LogTable, shape: Shape | undefined): ChangeLogError | undefined => {
  const { assumeOrdered, columns, name, named, quoted } = table
  const because = (reason: "MissingTable" | "UnsafeTable", sentence: string): ChangeLogError =>
    new ChangeLogError({ reason, log: name, message: `${name}: ${sentence}` })
  if (shape === undefined) {
    return because("MissingTable", "there is no such table; create it, or name it with `table`.")
  }
  if (shape.kind !== "r") {
    return because("UnsafeTable", `it is ${kinds[shape.kind] ?? "no table"}; a log is an ordinary table.`)
  }
  if (shape.hasChildren) {
    return because(
      "UnsafeTable",
      "other tables inherit from it, and their entries could be missed; a log is one table."
    )
  }
  const isMissing = (column: keyof Columns): boolean => !shape.columns.has(columns[column])
  const wanted: ReadonlyArray<keyof Columns> = ["seq", ...named.filter((column) => column !== "xid" || assumeOrdered)]
  const missing = wanted.find(isMissing)
  if (missing !== undefined) {
    const column = JSON.stringify(columns[missing])
    return because("MissingTable", `it has no column ${column}; name its columns with \`columns\`.`)
  }
  const unsafe = (sentence: string): ChangeLogError => because("UnsafeTable", sentence)
  return (
    refusedNumber(shape, columns, quoted, unsafe) ??
    (assumeOrdered ? undefined : refusedTransaction(shape, columns, quoted, unsafe)) ??
    (named.includes("at") && timeOf(shape.columns.get(columns.at)) === undefined
      ? unsafe(
          `its column ${JSON.stringify(columns.at)} is of type ${shape.columns.get(columns.at)!.type}; a time is a timestamptz, or milliseconds as a bigint.`
        )
      : undefined)
  )
}

type Refuse = (sentence: string) => ChangeLogError

const refusedNumber = (shape: Shape, columns: Columns, quoted: string, unsafe: Refuse): ChangeLogError | undefined => {
  const shown = JSON.stringify(columns.seq)
  const seq = quote(columns.seq)
  const { isRequired, type } = shape.columns.get(columns.seq)!
  if (!integers.has(type)) return unsafe(`its column ${shown} is of type ${type}; the numbers of a log are bigint.`)
  if (
    !shape.indexes.some((index) => index.isUnique && index.columns.length === 1 && index.columns[0] === columns.seq)
  ) {
    return unsafe(
      `its column ${shown} is neither its primary key nor unique, so entries could be missed; run ALTER TABLE ${quoted} ADD UNIQUE (${seq}), or name another with \`columns.seq\`.`
    )
  }
  return isRequired
    ? undefined
    : unsafe(
        `its column ${shown} can be NULL, and such entries would be missed; run ALTER TABLE ${quoted} ALTER COLUMN ${seq} SET NOT NULL.`
      )
}

const refusedTransaction = (
  shape: Shape,
  columns: Columns,
  quoted: string,
  unsafe: Refuse
): ChangeLogError | undefined => {
  const shown = JSON.stringify(columns.xid)
  const [seq, xid] = [quote(columns.seq), quote(columns.xid)]
  const column = shape.columns.get(columns.xid)
  const index = `CREATE INDEX ON ${quoted} (${xid}, ${seq})`
  if (column === undefined) {
    return unsafe(
      `entries become visible out of the order of ${JSON.stringify(columns.seq)} when writers overlap, and would be missed; run ALTER TABLE ${quoted} ADD COLUMN ${xid} xid8 NOT NULL DEFAULT pg_current_xact_id(), and ${index}, or set \`assumeOrdered\` if there is never more than one writer.`
    )
  }
  if (column.type !== "xid8") {
    return unsafe(`its column ${shown} is of type ${column.type}, not xid8; name another with \`columns.xid\`.`)
  }
  if (!isGiven(column)) {
    return unsafe(
      `its column ${shown} is not given by the server, so entries could be missed; run ALTER TABLE ${quoted} ALTER COLUMN ${xid} SET DEFAULT pg_current_xact_id().`
    )
  }
  if (!column.isRequired) {
    return unsafe(
      `its column ${shown} can be NULL, and such entries would be missed; run ALTER TABLE ${quoted} ALTER COLUMN ${xid} SET NOT NULL.`
    )
  }
  return shape.indexes.some(({ columns: names }) => beginsWith(names, [columns.xid, columns.seq]))
    ? undefined
    : unsafe(`every read would go through the whole table; run ${index}.`)
}
