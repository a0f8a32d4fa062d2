/**
 * A log in PostgreSQL. Writers overlap there, so entries do not become visible in the order of their numbers: each bears the
 * transaction that wrote it, and is read when no transaction in front of that one is open any more.
 *
 * The order is (transaction, number); what was read is never followed by an entry in front of it.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type { Cursor } from "./ChangeLog.js"
import { ChangeLogError } from "./ChangeLog.js"
import * as consumers from "./consumers.js"
import * as horizon from "./horizon.js"
import type { LogTable } from "./logTable.js"
import { quote } from "./logTable.js"
import type { Bounds } from "./position.js"
import { expiry, isSame } from "./position.js"
import * as postgresPrune from "./postgresPrune.js"
import type { Ask, Statements } from "./postgresStatements.js"
import {
  cursorOf,
  findPlace,
  isNone,
  leftOut,
  makeStatements,
  numberOf,
  params,
  rowOf,
  xmax,
  xmin
} from "./postgresStatements.js"
import * as postgresTable from "./postgresTable.js"
import type { OpenLog } from "./sqlLog.js"
import { entriesLeftOut } from "./sqlProblem.js"

/** Opens the table; makes it first if that is wanted. */
export const open = (
  sql: SqlClient.SqlClient,
  table: LogTable
): Effect.Effect<OpenLog, ChangeLogError | SqlError, Scope.Scope> =>
  Effect.gen(function* () {
    if (table.create) yield* postgresTable.create(sql, table)
    const shape = yield* postgresTable.inspect(sql, table)
    const problem = postgresTable.refusal(table, shape)
    if (problem !== undefined) return yield* problem
    const statements = makeStatements(table, shape!)
    const ask: Ask = (statement, given = []) => sql.unsafe(statement, given as Array<unknown>).values as ReturnType<Ask>
    const lookAhead = yield* looker(ask, statements, table)
    yield* lookAhead(true)
    return make(sql, ask, table, statements, lookAhead)
  })

/** How long nobody looks at what is held back, at least, and how many times as long as the last look took. */
const lookPause = 1000
const lookShare = 20

type Look = (isEmpty: boolean) => Effect.Effect<void, SqlError | ChangeLogError>

/** Looks at what is held back behind the horizon, now and then: many entries that are not committed yet make that expensive. */
const looker = (
  ask: Ask,
  { descending, from, hasXid, xid }: Statements,
  { columns, name, quoted }: LogTable
): Effect.Effect<Look, never, Scope.Scope> =>
  Effect.gen(function* () {
    if (!hasXid) return () => Effect.void
    const { forget, look } = horizon.follow(name)
    yield* forget
    yield* Effect.addFinalizer(() => forget)
    const statement = `SELECT ${xmin}::text, n.xid::text, (n.xid >= ${xmax} AND n.xid IS DISTINCT FROM pg_current_xact_id_if_assigned())::text FROM (SELECT 1) AS one LEFT JOIN (SELECT ${xid} AS xid FROM ${from} ORDER BY ${descending} LIMIT 1) AS n ON true`
    const own = quote(columns.xid)
    let next = -Infinity
    return (isEmpty) =>
      Effect.gen(function* () {
        const started = yield* Clock.currentTimeMillis
        if (started < next) return
        const [row] = yield* ask(statement)
        const ended = yield* Clock.currentTimeMillis
        const [oldest, newest, isAhead] = row!
        if (isAhead !== "true") {
          next = ended + Math.max(lookPause, lookShare * (ended - started))
          return yield* look({ horizon: numberOf(oldest), newest: isNone(newest) ? undefined : numberOf(newest) })
        }
        if (!isEmpty) return
        return yield* new ChangeLogError({
          reason: "UnsafeTable",
          log: name,
          message: `${name}: entries bear transactions that this server has not come to yet, so nobody would see them: they were restored from another server; run UPDATE ${quoted} SET ${own} = pg_current_xact_id() WHERE ${own} >= pg_snapshot_xmax(pg_current_snapshot()).`
        })
      })
  })

/** How a reader stands to the log, looked at behind a read that has not found the entry at its cursor. */
const bounder = (
  ask: Ask,
  table: LogTable,
  statements: Statements,
  floor: Effect.Effect<Cursor | undefined, SqlError>,
  lookAhead: Look
): OpenLog["bounds"] => {
  const { from, hasXid, is, isOurs, last, place, seq, start, xid } = statements
  const ahead = hasXid ? `$1::xid8 >= ${xmax}` : "$1::xid8 IS NOT NULL"
  const there = hasXid ? `${seq} IS NOT NULL AND ${xid} = $1::xid8` : `${seq} IS NOT NULL`
  const oldest = table.assumeDense ? `(SELECT min(${seq}) FROM ${from})` : "NULL"
  const statement = (older: string): string => {
    const flags = [ahead, older, "pg_is_in_recovery()", there].map((flag) => `(${flag})::text`).join(", ")
    return `SELECT ${place}, ${last}::text, ${oldest}::text, ${flags} FROM (SELECT 1) AS one LEFT JOIN ${from} ON ${seq} = $2::bigint`
  }
  return (after) =>
    Effect.gen(function* () {
      const cursor = after ?? start
      const pruned = yield* floor
      // a reader that waits where the log was pruned asks this again and again, past all that is not cleaned up there
      // the head of an empty log stands in front of every transaction, whatever number comes first
      const isFront = pruned === undefined && cursor.xid === 0n
      const isAtFloor = pruned !== undefined && isSame(pruned, cursor)
      const older = isOurs && !isAtFloor ? `EXISTS (SELECT FROM ${from} WHERE ${is("<")})` : "false"
      const [row] = yield* ask(statement(older), params(statements, cursor))
      const [number, transaction, at, head, oldest, isAhead, hasOlder, isStandby, isThere] = row!
      if (isStandby === "true" && (isAhead === "true" || (!isNone(head) && numberOf(head) < cursor.seq))) {
        return yield* new ChangeLogError({
          reason: "Unavailable",
          log: table.name,
          message: `${table.name}: reading failed: this standby has not received yet what was read before.`
        })
      }
      const bounds: Bounds = {
        found: isFront || isNone(number) ? undefined : cursorOf(statements, number, transaction, at),
        floor: pruned,
        head: isFront || isNone(head) ? undefined : { seq: numberOf(head) },
        oldest: isNone(oldest) ? undefined : { seq: numberOf(oldest) },
        why:
          isAhead === "true"
            ? "the server has not come to its transaction yet: the log was restored into another one"
            : isThere !== "true" && hasOlder === "true"
              ? "that entry is not there, but older ones are: the log was restored, or entries were deleted by hand"
              : undefined
      }
      // what tells this reader that it has lost its place comes before what concerns all
      if (expiry(cursor, bounds, table.assumeDense) === undefined) yield* lookAhead(true)
      return bounds
    })
}

/** In front of every entry, with a number that people can read; without transactions, one that no entry can have. */
const nothing = ({ hasXid, start }: Statements): Cursor => (hasXid ? { ...start, seq: 0n } : start)

const saysLeftOut = ({ cause }: SqlError): boolean =>
  Predicate.hasProperty(cause, "message") && String(cause.message).includes(leftOut)

const make = (
  sql: SqlClient.SqlClient,
  ask: Ask,
  table: LogTable,
  statements: Statements,
  lookAhead: Look
): OpenLog => {
  const {
    ascending,
    data,
    descending,
    entity,
    from,
    hasXid,
    is,
    isOver,
    key,
    kind,
    last,
    place,
    seq,
    start,
    time,
    xid
  } = statements
  const find = findPlace(ask, statements)
  const floor = consumers.floor(sql, key)

  /** Behind the newest entry that is in front of all that have a greater number, of the past and of transactions that are open. */
  const cursorAt: OpenLog["cursorAt"] = (number) =>
    Effect.gen(function* () {
      if (!hasXid) return { seq: number }
      const pruned = yield* floor
      // that entries behind it were pruned, or that it was never given, is told by the first read
      if (pruned !== undefined && number < pruned.seq) return { seq: number, xid: 0n }
      const [row] = yield* ask(
        `SELECT ${last}::text, least(${xmin}::text::numeric, (SELECT ${xid} FROM ${from} WHERE ${seq} > $1::bigint ORDER BY ${xid} LIMIT 1)::text::numeric)::text`,
        [String(number)]
      )
      const [head, first] = row!
      const bound: Cursor = { seq: number, xid: numberOf(first) }
      if (!isNone(head) && numberOf(head) < number) return bound
      const found = yield* find(`WHERE ${is("<=")} ORDER BY ${descending} LIMIT 1`, params(statements, bound))
      return found ?? pruned ?? start
    })

  return {
    key,
    start,
    hasTime: time !== undefined,
    canAppend: statements.append !== undefined,
    from: (given, limit, kinds) =>
      Effect.gen(function* () {
        // without a transaction: until now the log was read by number alone
        const after = hasXid && given !== undefined && given.xid === undefined ? yield* cursorAt(given.seq) : given
        const size = after === undefined ? limit : limit + 1
        const shown = kinds === undefined ? data : `CASE WHEN ${kind} = ANY($3::text[]) THEN ${data} END`
        const rows = yield* ask(
          `SELECT ${place}, ${entity}, ${kind}, ${shown} FROM ${from} WHERE ${is(">=")} AND ${isOver} ORDER BY ${ascending} LIMIT ${size}`,
          [...params(statements, after ?? start), ...(kinds === undefined ? [] : [kinds])]
        )
        const found = rows.map((row) => rowOf(statements, row))
        if (rows.length < size)
          yield* lookAhead(found.length === (after === undefined ? 0 : 1) && found[0]?.cursor.seq === after?.seq)
        return { rows: found, more: rows.length >= size }
      }),
    bounds: bounder(ask, table, statements, floor, lookAhead),
    head: Effect.gen(function* () {
      return (yield* find(`WHERE ${isOver} ORDER BY ${descending} LIMIT 1`)) ?? (yield* floor) ?? nothing(statements)
    }),
    cursorAt,
    ...postgresPrune.make(ask, statements, table.name),
    append: (entries, atMillis) =>
      Effect.gen(function* () {
        if (entries.some(({ entity, kind }) => /[\0\p{Surrogate}]/u.test(`${entity} ${kind}`))) {
          return yield* new ChangeLogError({
            reason: "Rejected",
            log: table.name,
            message: `${table.name}: append: PostgreSQL cannot store a NUL character or half a surrogate pair in an entity or kind; encode it first.`
          })
        }
        const texts = [
          entries.map(({ entity }) => entity),
          entries.map(({ kind }) => kind),
          entries.map(({ data }) => data)
        ]
        const given = yield* Effect.catchAll(
          ask(statements.append!, time === undefined ? texts : [...texts, atMillis]),
          (error): Effect.Effect<never, SqlError | ChangeLogError> =>
            Effect.fail(saysLeftOut(error) ? entriesLeftOut(table.name) : error)
        )
        return given.map(([number]) => numberOf(number))
      }),
    lock: undefined
  }
}
