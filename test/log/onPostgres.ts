/**
 * What live tests of a log in PostgreSQL share: one server for a file, a database for each test, and a log in it.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import type { ChangeLog } from "effect-periscope/log"
import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
import type { Layer } from "effect"
import { Duration, Effect, Exit, Redacted, Scope } from "effect"
import { isInstalled } from "../servers/installed.js"
import type { Database, Postgres } from "../servers/postgres.js"
import { postgres, startPostgres } from "../servers/postgres.js"

/** Tests that need the server; they are skipped where it is not installed. */
export const onPostgres = (name: string, tests: (server: () => Postgres) => void): void => {
  describe.skipIf(!isInstalled(postgres))(name, () => {
    const scope = Effect.runSync(Scope.make())
    let server: Postgres | undefined
    beforeAll(async () => {
      server = await Effect.runPromise(Scope.extend(startPostgres, scope))
    })
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    tests(() => server!)
  })
}

export const connect = (
  { url }: { readonly url: string },
  options: Omit<PgClient.PgClientConfig, "url"> = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, unknown> =>
  PgClient.layer({ url: Redacted.make(url), ...options })

export type Log = typeof ChangeLog.ChangeLog.Service

export interface Opened {
  readonly sql: SqlClient.SqlClient
  readonly log: Log
  readonly database: Database
}

/** A test in a database of its own. */
export const inDatabase = (
  name: string,
  server: () => Postgres,
  test: (
    database: Database,
    sql: SqlClient.SqlClient
  ) => Effect.Effect<unknown, unknown, Scope.Scope | SqlClient.SqlClient | PgClient.PgClient>,
  timeout?: number
): void =>
  it.live(
    name,
    () =>
      Effect.gen(function* () {
        const database = yield* server().makeDatabase
        yield* Effect.flatMap(SqlClient.SqlClient, (sql) => test(database, sql)).pipe(
          Effect.scoped,
          Effect.provide(connect(database, { maxConnections: 40 }))
        )
      }),
    timeout
  )

/** A test with a log in a database of its own. */
export const withLog = (
  name: string,
  server: () => Postgres,
  test: (opened: Opened) => Effect.Effect<unknown, unknown, Scope.Scope | SqlClient.SqlClient | PgClient.PgClient>,
  options: SqlChangeLog.Options = {},
  timeout?: number
): void =>
  inDatabase(
    name,
    server,
    (database, sql) => Effect.flatMap(SqlChangeLog.make(options), (log) => test({ sql, log, database })),
    timeout
  )

/** Waits until something holds, and dies when it does not for too long. */
export const until = <E, R>(
  what: string,
  holds: Effect.Effect<boolean, E, R>,
  within: Duration.DurationInput = "10 seconds"
): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    const end = Date.now() + Duration.toMillis(within)
    while (!(yield* holds)) {
      if (Date.now() > end) return yield* Effect.dieMessage(`waited in vain: ${what}`)
      yield* Effect.sleep("10 millis")
    }
  })

/** A transaction of its own connection that stays open until it is told to end. */
export const openTransaction = (
  sql: SqlClient.SqlClient,
  statements: ReadonlyArray<string>
): Effect.Effect<
  { readonly end: (how: "COMMIT" | "ROLLBACK") => Effect.Effect<void, unknown> },
  unknown,
  Scope.Scope
> =>
  Effect.gen(function* () {
    const connection = yield* sql.reserve
    const run = (statement: string) => connection.executeUnprepared(statement, [], undefined)
    yield* run("BEGIN")
    for (const statement of statements) yield* run(statement)
    return { end: (how) => Effect.asVoid(run(how)) }
  })
