/**
 * Checkpoint records in two tables of SQLite or PostgreSQL: one row for each record, one for each of its blocks.
 *
 * Every operation is one transaction, or one statement, that begins with a write to the record's row. So in PostgreSQL it has that row for itself, and
 * in SQLite it waits for other writers instead of failing because it had read before.
 *
 * Texts are stored as ASCII: a column holds neither NUL nor a lone surrogate, an index no long key, and some databases no Unicode.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { createHash } from "node:crypto"
import type { Failure, OpenRecord, RecordStore, Save } from "../core/Checkpoints.js"
import { inTransaction, isSqlError, problemOf } from "./sqlTransaction.js"

export interface SqlRecords extends RecordStore {
  /** As `open`; with `owned` only while the fence of the record is one of these. */
  readonly takeOver: (
    checkpoint: string,
    fence: number,
    owned: ReadonlyArray<number> | undefined
  ) => Effect.Effect<OpenRecord, Failure>
  /** Keeps a record from everybody else until the transaction of the caller ends; fails if it is not the caller's any more. */
  readonly hold: (checkpoint: string, fence: number) => Effect.Effect<void, Failure>
}

interface Store {
  readonly sql: SqlClient.SqlClient
  readonly table: string
  readonly records: Fragment
  readonly blocks: Fragment
}

/** Of the tables; a database of a later one is left alone. */
const format = 1

/** The row that is no record: `fence` is the last one that was given out, `rev` the format. No key of a record looks like it. */
const counter = "format"

/** PostgreSQL cuts longer names: 63, and the suffix of the second table. */
const maxNameLength = 56

export const defaultTable = "periscope_checkpoints"

/** Fails at construction, as a programmer's mistake. */
export const checkTable = (table: string): void => {
  const parts = table.split(".")
  const isName = (part: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(part) && part.length <= maxNameLength
  if (parts.length > 2 || !parts.every(isName)) {
    throw new Error(
      `SqlCheckpoints: \`table\` is ${JSON.stringify(table)}; it must be a name of at most ${maxNameLength} letters, digits and underscores, which may have a schema before it, as in "app.checkpoints".`
    )
  }
}

const quoted = (table: string): string =>
  table
    .split(".")
    .map((part) => `"${part}"`)
    .join(".")

// ---------------------------------------------------------------- texts

/** JSON in ASCII. */
const encode = (text: string): string =>
  JSON.stringify(text).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)

const decode = (json: unknown): string | undefined => {
  if (!Predicate.isString(json)) return undefined
  const text = Option.getOrUndefined(Either.getRight(Either.try((): unknown => JSON.parse(json))))
  return Predicate.isString(text) ? text : undefined
}

const maxKeyLength = 400

/** What a text is found by: itself, or its hash where it is too long for an index. */
const keyOf = (name: string): string =>
  name.length <= maxKeyLength ? name : `#${createHash("sha256").update(name).digest("hex")}`

// ---------------------------------------------------------------- failures

const toFailure = (error: Failure | SqlError): Failure =>
  isSqlError(error) ? { reason: "Unavailable", message: problemOf(error) } : error

const overtaken: Failure = { reason: "Fenced", message: "a younger owner has claimed this checkpoint since" }

const removed: Failure = { reason: "Fenced", message: "this checkpoint was removed since it was claimed" }

const corrupt = ({ table }: Store, problem: string): Failure => ({
  reason: "Corrupt",
  message: `the record in table "${table}" is damaged: ${problem}. Restore the table from a backup, or remove this checkpoint to start over`
})

const otherFormat = ({ table }: Store, found: unknown): Failure => ({
  reason: "UnknownFormat",
  message: `table "${table}" has the format ${String(found)}, this version reads ${format}: run the version that made it, or give another \`table\``
})

/** Runs what one operation consists of as a whole. */
const whole = <A>({ sql }: Store, effect: Effect.Effect<A, Failure | SqlError>): Effect.Effect<A, Failure> =>
  Effect.mapError(inTransaction(sql, effect), toFailure)

// ---------------------------------------------------------------- tables

/** Any number will do that no other program locks by. */
const makingTables = 5_247_901_663

const create = ({ blocks, records, sql }: Store, bytes: Fragment) => [
  sql`CREATE TABLE IF NOT EXISTS ${records} (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, fence BIGINT NOT NULL, rev BIGINT NOT NULL, head TEXT)`,
  sql`CREATE TABLE IF NOT EXISTS ${blocks} (id TEXT NOT NULL, block TEXT NOT NULL, name TEXT NOT NULL, bytes ${bytes} NOT NULL, PRIMARY KEY (id, block))`
]

const makeSqlite = (store: Store): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const { sql } = store
    // some drivers start with none: then a write fails at once where it should wait for that of another process
    const [row] = yield* sql<{ timeout: number }>`PRAGMA busy_timeout`
    if (row !== undefined && Number(row.timeout) === 0) yield* sql`PRAGMA busy_timeout = 5000`
    for (const statement of create(store, sql.literal("BLOB"))) yield* statement
  })

const makePostgres = (store: Store): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const { sql, table } = store
    const [row] = yield* sql<{ made: boolean }>`SELECT to_regclass(${quoted(`${table}_blocks`)}) IS NOT NULL AS made`
    // who may not create tables has somebody else create them: IF NOT EXISTS asks for the right all the same
    if (row?.made === true) return
    // it is no help either to two that begin at the same instant
    const alone = sql`SELECT pg_advisory_xact_lock(${makingTables})`
    yield* inTransaction(sql, Effect.all([alone, ...create(store, sql.literal("BYTEA"))], { discard: true }))
  })

const makeTables = (store: Store): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const { records, sql } = store
    yield* sql.onDialectOrElse<
      Effect.Effect<void, SqlError>,
      Effect.Effect<void, SqlError>,
      Effect.Effect<void, SqlError>
    >({
      sqlite: () => makeSqlite(store),
      pg: () => makePostgres(store),
      orElse: () => Effect.dieMessage("SqlCheckpoints: a dialect that was checked before")
    })
    yield* sql`INSERT INTO ${records} (id, name, fence, rev) VALUES (${counter}, '', 0, ${format}) ON CONFLICT (id) DO NOTHING`
    const [row] = yield* sql<{ rev: unknown }>`SELECT rev FROM ${records} WHERE id = ${counter}`
    if (Number(row?.rev) !== format) return yield* Effect.fail(otherFormat(store, row?.rev))
  }).pipe(Effect.mapError(toFailure))

// ---------------------------------------------------------------- records

const nextFence = (store: Store): Effect.Effect<number, Failure> =>
  Effect.gen(function* () {
    const { records, sql } = store
    const [row] = yield* sql<{ fence: unknown; rev: unknown }>`
      UPDATE ${records} SET fence = fence + 1 WHERE id = ${counter} RETURNING fence, rev`
    if (Number(row?.rev) !== format) return yield* Effect.fail(otherFormat(store, row?.rev))
    return Number(row?.fence)
  }).pipe(Effect.mapError(toFailure))

interface Row {
  readonly rev: unknown
  readonly head: unknown
}

const take = (
  { records, sql }: Store,
  name: string,
  fence: number,
  owned: ReadonlyArray<number> | undefined
): Effect.Effect<ReadonlyArray<Row>, SqlError> =>
  owned === undefined
    ? sql<Row>`
        INSERT INTO ${records} AS r (id, name, fence, rev) VALUES (${keyOf(name)}, ${name}, ${fence}, 0)
        ON CONFLICT (id) DO UPDATE SET fence = excluded.fence WHERE r.fence < excluded.fence RETURNING rev, head`
    : sql<Row>`
        UPDATE ${records} SET fence = ${fence} WHERE id = ${keyOf(name)} AND fence IN ${sql.in(owned)} RETURNING rev, head`

/** Drivers give bytes as one or the other. */
const toBytes = (value: unknown): Uint8Array | undefined =>
  value instanceof ArrayBuffer
    ? new Uint8Array(value)
    : value instanceof Uint8Array
      ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
      : undefined

const readBlocks = (store: Store, name: string) =>
  Effect.gen(function* () {
    const { blocks, sql } = store
    const rows = yield* sql<{ name: unknown; bytes: unknown }>`
      SELECT name, bytes FROM ${blocks} WHERE id = ${keyOf(name)}`
    const found = new Map<string, Uint8Array>()
    for (const row of rows) {
      const id = decode(row.name)
      const bytes = toBytes(row.bytes)
      if (id === undefined) return yield* Effect.fail(corrupt(store, "the name of a block cannot be read"))
      if (bytes === undefined) return yield* Effect.fail(corrupt(store, "a block is not made of bytes"))
      found.set(id, bytes)
    }
    return found
  })

const takeOver = (
  store: Store,
  checkpoint: string,
  fence: number,
  owned: ReadonlyArray<number> | undefined
): Effect.Effect<OpenRecord, Failure> => {
  const name = encode(checkpoint)
  const reading = Effect.gen(function* () {
    const [row] = yield* take(store, name, fence, owned)
    if (row === undefined) return yield* Effect.fail(overtaken)
    if (row.head === null) return Option.none()
    const rev = Number(row.rev)
    const head = decode(row.head)
    if (!Number.isSafeInteger(rev)) return yield* Effect.fail(corrupt(store, "its revision is no whole number"))
    if (head === undefined) return yield* Effect.fail(corrupt(store, "its head cannot be read"))
    return Option.some({ rev, head, blocks: yield* readBlocks(store, name) })
  })
  return Effect.map(whole(store, reading), (stored) => ({ stored, save: (next) => save(store, name, fence, next) }))
}

/** Why a record is not the one that was to be written. */
const refusal = ({ records, sql }: Store, name: string, fence: number, rev?: number) =>
  Effect.flatMap(
    sql<{ fence: unknown; rev: unknown }>`SELECT fence, rev FROM ${records} WHERE id = ${keyOf(name)}`,
    ([row]): Effect.Effect<never, Failure> => {
      if (row === undefined) return Effect.fail(removed)
      if (Number(row.fence) !== fence || rev === undefined) return Effect.fail(overtaken)
      const message = `revision ${rev} was refused because revision ${Number(row.rev)} is stored already: another owner has saved since`
      return Effect.fail({ reason: "Fenced", message })
    }
  )

/** Rows of one statement; SQLite may take no more than 999 values. */
const rowsAtOnce = 100

const save = (store: Store, name: string, fence: number, next: Save): Effect.Effect<void, Failure> => {
  const { blocks, records, sql } = store
  const { rev } = next
  if (!Number.isSafeInteger(rev)) {
    return Effect.fail({ reason: "Fenced", message: `revision ${rev} was refused because it is no whole number` })
  }
  const id = keyOf(name)
  const dropped = Array.from(new Set(next.drop), (block) => keyOf(encode(block)))
  // the caller may change its arrays before a driver has sent them
  const put = Array.from(new Map(next.put), ([block, bytes]) => [encode(block), bytes.slice()] as const)
  const replacing = Effect.flatMap(
    sql`
      UPDATE ${records} SET rev = ${rev}, head = ${encode(next.head)}
      WHERE id = ${id} AND fence = ${fence} AND (head IS NULL OR rev < ${rev}) RETURNING rev`,
    (rows) => (rows.length === 0 ? refusal(store, name, fence, rev) : Effect.void)
  )
  // one statement is whole by itself
  if (dropped.length === 0 && put.length === 0) return Effect.mapError(replacing, toFailure)
  const writing = Effect.gen(function* () {
    yield* replacing
    for (const some of Arr.chunksOf(dropped, rowsAtOnce)) {
      yield* sql`DELETE FROM ${blocks} WHERE id = ${id} AND block IN ${sql.in(some)}`
    }
    for (const some of Arr.chunksOf(put, rowsAtOnce)) {
      const values = some.map(([block, bytes]) => sql`(${id}, ${keyOf(block)}, ${block}, ${bytes})`)
      yield* sql`
        INSERT INTO ${blocks} (id, block, name, bytes) VALUES ${sql.csv(values)}
        ON CONFLICT (id, block) DO UPDATE SET bytes = excluded.bytes`
    }
  })
  return whole(store, writing)
}

const hold = (store: Store, checkpoint: string, fence: number): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const { records, sql } = store
    const name = encode(checkpoint)
    const rows = yield* sql`
      UPDATE ${records} SET fence = fence WHERE id = ${keyOf(name)} AND fence = ${fence} RETURNING rev`
    if (rows.length === 0) return yield* refusal(store, name, fence)
  }).pipe(Effect.mapError(toFailure))

const remove = (store: Store, checkpoint: string): Effect.Effect<boolean, Failure> => {
  const { blocks, records, sql } = store
  const id = keyOf(encode(checkpoint))
  const removing = Effect.gen(function* () {
    const [row] = yield* sql<{ head: unknown }>`DELETE FROM ${records} WHERE id = ${id} RETURNING head`
    yield* sql`DELETE FROM ${blocks} WHERE id = ${id}`
    return row !== undefined && row.head !== null
  })
  return whole(store, removing)
}

const list = (store: Store): Effect.Effect<ReadonlyArray<string>, Failure> =>
  Effect.gen(function* () {
    const { records, sql } = store
    const rows = yield* sql<{ name: unknown }>`SELECT name FROM ${records} WHERE head IS NOT NULL`
    const ids: Array<string> = []
    for (const row of rows) {
      const id = decode(row.name)
      if (id === undefined) return yield* Effect.fail(corrupt(store, "its name cannot be read"))
      ids.push(id)
    }
    return ids.sort()
  }).pipe(Effect.mapError(toFailure))

/** Makes the tables where they are missing. */
export const makeSql = (client: SqlClient.SqlClient, table: string): Effect.Effect<SqlRecords, Failure> =>
  Effect.gen(function* () {
    const sql = client.withoutTransforms()
    if (!sql.onDialectOrElse({ sqlite: () => true, pg: () => true, orElse: () => false })) {
      return yield* Effect.fail<Failure>({
        reason: "Unavailable",
        message: "SqlCheckpoints keeps checkpoints in SQLite and PostgreSQL; the SqlClient is of another database"
      })
    }
    const store: Store = {
      sql,
      table,
      records: sql.literal(quoted(table)),
      blocks: sql.literal(quoted(`${table}_blocks`))
    }
    yield* makeTables(store)
    return {
      nextFence: nextFence(store),
      open: (checkpoint, fence) => takeOver(store, checkpoint, fence, undefined),
      takeOver: (checkpoint, fence, owned) => takeOver(store, checkpoint, fence, owned),
      hold: (checkpoint, fence) => hold(store, checkpoint, fence),
      remove: (checkpoint) => remove(store, checkpoint),
      list: list(store)
    }
  })
