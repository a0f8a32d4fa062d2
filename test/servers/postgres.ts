/**
 * PostgreSQL on loopback: `postgres.sh` says how it is started. Tests share one server and take a database each.
 *
 *   const scope = Effect.runSync(Scope.make())
 *   beforeAll(async () => { server = await Effect.runPromise(Scope.extend(startPostgres, scope)) })
 *   afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
 *   ... const { url } = yield* server.makeDatabase
 *   ... PgClient.layer({ url: Redacted.make(url) })
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Exit, Redacted, Schedule, Scope } from "effect"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"
import type { Server } from "./installed.js"
import { find } from "./installed.js"
import { freePort, ServerError, startProcess } from "./serverProcess.js"

/** The folder of the programs: Debian has one for every version, none of them on PATH. */
const programs = (): string => {
  const versions = "/usr/lib/postgresql"
  const numbers = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : []
  const folders = numbers.map((version) => path.join(versions, version, "bin"))
  const found = folders.find((folder) => find(path.join(folder, "postgres")) !== undefined)
  return found ?? path.dirname(find("postgres") ?? path.join(versions, "bin", "postgres"))
}

const folder = programs()

export const postgres: Server = {
  name: "PostgreSQL",
  commands: ["bash", "setpriv", path.join(folder, "initdb"), path.join(folder, "postgres")],
  install: "apt-get install --no-install-recommends postgresql"
}

/** A database of its own, empty. */
export interface Database {
  readonly name: string
  readonly url: string
}

export interface Postgres {
  readonly host: string
  readonly port: number
  readonly user: string
  /** Of the database `postgres`, for what concerns the whole server. */
  readonly url: string
  readonly makeDatabase: Effect.Effect<Database>
  /** Ends the server at once, as a crash does; connections are cut. */
  readonly stop: Effect.Effect<void>
  /** Ends it if it runs, and starts it on the same port and data. */
  readonly restart: Effect.Effect<void, ServerError>
}

const script = fileURLToPath(new URL("postgres.sh", import.meta.url))

/** Runs one statement outside of any transaction. */
const execute = (url: string, statement: string): Effect.Effect<void, unknown> =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
  )

/** Starts the server, which ends with the scope. */
export const startPostgres: Effect.Effect<Postgres, ServerError, Scope.Scope> = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(path.join(tmpdir(), "periscope-postgres-"))),
    (directory) =>
      Effect.sync(() => rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }))
  )
  const host = "127.0.0.1"
  const user = "postgres"
  const port = yield* freePort
  const urlOf = (database: string): string => `postgres://${user}@${host}:${port}/${database}`
  const url = urlOf("postgres")

  let running: Scope.CloseableScope | undefined
  const stop = Effect.suspend(() => {
    const scope = running
    running = undefined
    return scope === undefined ? Effect.void : Scope.close(scope, Exit.void)
  })
  const start = Effect.gen(function* () {
    const scope = yield* Scope.make()
    running = scope
    yield* Scope.extend(
      startProcess({ command: "bash", args: [script, folder, directory, String(port)], port, within: "60 seconds" }),
      scope
    )
    // it takes connections before it is ready to answer them, after a crash for longer
    yield* execute(url, "SELECT 1").pipe(
      Effect.retry(Schedule.spaced("50 millis")),
      Effect.timeout("30 seconds"),
      Effect.mapError(() => new ServerError({ message: "PostgreSQL does not answer." }))
    )
  })
  yield* Effect.addFinalizer(() => stop)
  yield* start

  let databases = 0
  const makeDatabase = Effect.suspend(() => {
    const name = `test_${++databases}`
    return Effect.as(Effect.orDie(execute(url, `CREATE DATABASE ${name}`)), { name, url: urlOf(name) })
  })
  return { host, port, user, url, makeDatabase, stop, restart: Effect.zipRight(stop, start) }
})
