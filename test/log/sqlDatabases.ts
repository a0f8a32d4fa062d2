/** Databases for tests: SQLite files and a PostgreSQL server. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** The name of a file in a folder of its own, which goes with the scope. */
export const file: Effect.Effect<string, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "periscope-sqlite-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => join(folder, "test.db")
)

export const layer = (
  database: string,
  options: {
    readonly applicationName?: string
    readonly disableWAL?: boolean
    readonly transformResultNames?: (name: string) => string
  } = {}
): Layer.Layer<SqlClient.SqlClient> =>
  database.startsWith("postgres:")
    ? Layer.fresh(Layer.orDie(PgClient.layer({ url: Redacted.make(database), maxConnections: 4, ...options })))
    : Layer.fresh(Layer.orDie(SqliteClient.layer({ filename: database, ...options })))

/** A client of its own, until the scope closes. */
export const connect = (
  database: string,
  options?: Parameters<typeof layer>[1]
): Effect.Effect<SqlClient.SqlClient, never, Scope.Scope> =>
  Effect.map(Layer.build(layer(database, options)), (context) => Context.get(context, SqlClient.SqlClient))

/** What another process would do: every client of `@effect/sql` uses the transaction that the caller is in, also that of another client. */
export const outside = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(
    effect,
    (context: Context.Context<R>) =>
      Context.omit(SqlClient.TransactionConnection)(context as never) as Context.Context<R>
  )
