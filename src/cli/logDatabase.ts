/**
 * Opens the database of a change log. Drivers are loaded when they are wanted; no password and no text of a server gets into
 * what is said.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Scope from "effect/Scope"
import { closeSync, openSync, readSync, statSync } from "node:fs"
import { dirname } from "node:path"
import type { ConnectionOptions } from "node:tls"
import type { ChangeLog } from "../log/ChangeLog.js"
import { ChangeLogError } from "../log/ChangeLog.js"
import * as SqlChangeLog from "../log/SqlChangeLog.js"
import { codeOf, common, load } from "./logPeer.js"
import type { Database, Log, SslMode } from "./logUri.js"
import { addressOf } from "./logUri.js"
import { CannotOpen } from "./stores.js"

type OpenLog = Context.Tag.Service<typeof ChangeLog>

/** Whether what is missing is made: only who writes makes anything. */
export type Missing = "refused" | "made"

type Sqlite = Extract<Database, { readonly kind: "sqlite" }>
type Postgres = Extract<Database, { readonly kind: "postgres" }>

type Problem = ChangeLogError | CannotOpen

const unavailable = (log: string, message: string): ChangeLogError =>
  new ChangeLogError({ reason: "Unavailable", log, message })

// ---------------------------------------------------------------- drivers

const loadSqlite = load(
  "a log in SQLite",
  `${common} @effect/sql-sqlite-node@0.53`,
  () => import("@effect/sql-sqlite-node/SqliteClient")
)
const loadPostgres = load(
  "a log in PostgreSQL",
  `${common} @effect/sql-pg@0.53`,
  () => import("@effect/sql-pg/PgClient")
)
const loadHints = load("a log in PostgreSQL", `${common} @effect/sql-pg@0.53`, () => import("../log/PgHints.js"))

// ---------------------------------------------------------------- SQLite

const magic = "SQLite format 3\0"

/** The beginning of a file: a database has its name there, unless nothing was ever written to it. */
const beginningOf = (path: string): string => {
  const bytes = Buffer.alloc(magic.length)
  const file = openSync(path, "r")
  const count = readSync(file, bytes, 0, bytes.length, 0)
  closeSync(file)
  return bytes.toString("latin1", 0, count)
}

/** A file may be made where there is a folder for it. */
const inFolder = (path: string): Effect.Effect<string, CannotOpen> =>
  statSync(dirname(path), { throwIfNoEntry: false })?.isDirectory() === true
    ? Effect.succeed("")
    : Effect.fail(new CannotOpen(`there is no folder ${dirname(path)}; make it first`))

/** Which file it is, to tell it from one that takes its place; "" if there is none and it may be made. */
const fileOf = (path: string, missing: Missing): Effect.Effect<string, CannotOpen> =>
  Effect.suspend(() => {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found === undefined) {
      return missing === "made"
        ? inFolder(path)
        : Effect.fail(
            new CannotOpen(`there is no file ${path}, and none is made for reading; check the path, or append first`)
          )
    }
    if (!found.isFile()) return Effect.fail(new CannotOpen(`${path} is no file; name that of a SQLite database`))
    const beginning = beginningOf(path)
    return beginning === "" || beginning === magic
      ? Effect.succeed(`${found.dev}:${found.ino}`)
      : Effect.fail(new CannotOpen(`${path} is no SQLite database; check the path`))
  }).pipe(
    Effect.catchAllDefect((error) =>
      Effect.fail(new CannotOpen(`${path} cannot be read (${codeOf(error) || "unknown"}); check its permissions`))
    )
  )

/** Drivers throw it; some load their compiled part only then. */
const openingProblem = (path: string, table: string, error: unknown): Problem => {
  const code = codeOf(error)
  const text = Predicate.hasProperty(error, "message") ? String(error.message) : ""
  return code === "ERR_DLOPEN_FAILED" || code === "MODULE_NOT_FOUND" || /bindings/i.test(text)
    ? new CannotOpen(
        "the compiled part of the driver for SQLite cannot be loaded here; try again with: npm rebuild better-sqlite3"
      )
    : unavailable(table, `${path} cannot be opened${code === "" ? "" : ` (${code})`}; check its permissions.`)
}

const openSqlite = ({ path }: Sqlite, table: string, isNew: boolean) =>
  Effect.gen(function* () {
    const { layer } = yield* loadSqlite
    // its own journal mode is the business of who owns the database
    const context = yield* Effect.catchAllCause(Layer.build(layer({ filename: path, disableWAL: true })), (cause) =>
      Effect.fail(openingProblem(path, table, Cause.squash(cause)))
    )
    const sql = Context.get(context, SqlClient.SqlClient)
    // readers of a database that is read and written by several processes are not to wait for writers
    if (isNew) {
      yield* sql
        .unsafe("PRAGMA busy_timeout = 5000")
        .values.pipe(Effect.zipRight(sql.unsafe("PRAGMA journal_mode = WAL").values), Effect.ignore)
    }
    return context
  })

// ---------------------------------------------------------------- PostgreSQL

const sslOf: Readonly<Record<SslMode, boolean | ConnectionOptions>> = {
  disable: false,
  require: { rejectUnauthorized: false },
  "verify-ca": { checkServerIdentity: () => undefined },
  "verify-full": true
}

/** Why no connection could be made, in our own words: those of servers hold names of users. */
const connectionProblem = (database: Postgres, table: string, { cause }: SqlError): ChangeLogError => {
  const where = addressOf(database).replace(/^postgres:\/\//, "")
  const code = codeOf(cause)
  const text = Predicate.hasProperty(cause, "message") ? String(cause.message) : ""
  const say = (reason: "Unavailable" | "Rejected", what: string) =>
    new ChangeLogError({ reason, log: table, message: `${where} ${what}.` })
  if (/password must be a string|no password/i.test(text)) {
    return say("Rejected", "wants a password; set PGPASSWORD, or write it into the address")
  }
  if (code === "28P01" || code === "28000") {
    return say("Rejected", `does not let this user in (${code}); check user, password and sslmode`)
  }
  if (code === "3D000") return say("Rejected", "is no database that the server has (3D000); check its name")
  if (/does not support SSL/i.test(text)) return say("Rejected", "speaks no TLS; write sslmode=disable")
  if (/CERT|SIGNED|UNABLE_TO|ALTNAME/.test(code)) {
    return say("Rejected", `has a certificate that is not accepted (${code}); set NODE_EXTRA_CA_CERTS to its CA`)
  }
  if (/timed? ?out|timeout/i.test(text)) return say("Unavailable", "does not answer in time")
  return say("Unavailable", `cannot be connected to (${code === "" ? "no code" : code})`)
}

const openPostgres = (database: Postgres, table: string) =>
  Effect.gen(function* () {
    const { layer } = yield* loadPostgres
    const { host, password, port, sslMode, user } = database
    return yield* Layer.build(
      layer({
        ...{ host, port, database: database.database, username: user, password },
        // what is not given is for the driver to find: PGUSER, PGPASSWORD, PGSSLMODE and ~/.pgpass
        ssl: sslMode === undefined ? undefined : sslOf[sslMode],
        applicationName: "periscope",
        connectTimeout: "10 seconds",
        maxConnections: 2
      })
    ).pipe(
      Effect.catchAll((error) =>
        Effect.fail(
          error._tag === "SqlError"
            ? connectionProblem(database, table, error)
            : unavailable(table, "the settings of the driver for PostgreSQL cannot be read.")
        )
      )
    )
  })

// ---------------------------------------------------------------- the log

const openDatabase = (
  { database, table }: Log,
  file: string
): Effect.Effect<Context.Context<SqlClient.SqlClient>, Problem, Scope.Scope> =>
  database.kind === "sqlite" ? openSqlite(database, table.name, file === "") : openPostgres(database, table.name)

const openLog = (
  log: Log,
  missing: Missing,
  file: string,
  poke?: () => void
): Effect.Effect<OpenLog, Problem, Scope.Scope> =>
  Effect.flatMap(openDatabase(log, file), (context) => {
    const { assume, columns, name } = log.table
    return Effect.provide(
      SqlChangeLog.make({
        table: name,
        columns,
        create: missing === "refused" ? false : undefined,
        assumeOrdered: assume.includes("ordered"),
        assumeNeverReused: assume.includes("never-reused"),
        assumeDense: assume.includes("dense")
      }),
      context
    ).pipe(Effect.zipLeft(poke === undefined ? Effect.void : listen(log, context, poke)))
  })

/** Pokes when a server tells of entries; a file is listened to without its being open. */
const listen = ({ database, table }: Log, context: Context.Context<never>, poke: () => void) =>
  database.kind === "sqlite"
    ? Effect.void
    : Effect.flatMap(loadHints, ({ make }) =>
        Effect.mapInputContext(make()(table.name, poke), (scope: Context.Context<Scope.Scope>) =>
          Context.merge(context as Context.Context<PgClient>, scope)
        )
      )

const fileOfLog = ({ database }: Log, missing: Missing): Effect.Effect<string, CannotOpen> =>
  database.kind === "sqlite" ? fileOf(database.path, missing) : Effect.succeed("")

/** Opens a log for one command. */
export const open = (log: Log, missing: Missing): Effect.Effect<OpenLog, Problem, Scope.Scope> =>
  Effect.flatMap(fileOfLog(log, missing), (file) => openLog(log, missing, file))

/** A log that is opened when it is wanted. */
export interface Opening {
  /** The log, opened if need be. What only a person can put right is fatal as long as it was never open. */
  readonly get: Effect.Effect<OpenLog, Problem>
  /** Opens it anew next time. */
  readonly forget: Effect.Effect<void>
}

const isForPeople = (problem: Problem): boolean =>
  problem._tag === "CannotOpen" || problem.reason === "MissingTable" || problem.reason === "UnsafeTable"

/**
 * Opens a log for reading whenever it is not open, and anew where another file has taken the place of its own. `poke` is called
 * when its server says that there may be something new.
 */
export const lazily = (log: Log, poke: (() => void) | undefined): Effect.Effect<Opening, never, Scope.Scope> =>
  Effect.gen(function* () {
    const gate = yield* Effect.makeSemaphore(1)
    let current: { readonly log: OpenLog; readonly scope: Scope.CloseableScope; readonly file: string } | undefined
    let wasOpen = false
    const close = Effect.suspend(() => {
      const before = current
      current = undefined
      return before === undefined ? Effect.void : Scope.close(before.scope, Exit.void)
    })
    yield* Effect.addFinalizer(() => close)
    const openAnew = (file: string) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const opened = yield* restore(Scope.extend(openLog(log, "refused", file, poke), scope)).pipe(
            Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
          )
          current = { log: opened, scope, file }
          wasOpen = true
          return opened
        })
      )
    const get = Effect.gen(function* () {
      const file = yield* fileOfLog(log, "refused")
      if (current?.file === file) return current.log
      yield* close
      return yield* openAnew(file)
    }).pipe(
      Effect.mapError((problem) => {
        if (!isForPeople(problem)) return problem
        return wasOpen ? unavailable(log.table.name, problem.message) : new CannotOpen(problem.message)
      })
    )
    const locked = gate.withPermits(1)
    return { get: locked(get), forget: locked(close) }
  })
