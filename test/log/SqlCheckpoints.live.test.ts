import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Scope } from "effect"
import * as SqlCheckpoints from "effect-periscope/log/SqlCheckpoints"
import { suite } from "effect-periscope/testing/CheckpointsContract"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isInstalled } from "../servers/installed.js"
import type { Postgres } from "../servers/postgres.js"
import { postgres, startPostgres } from "../servers/postgres.js"

const guarantees = { survives: "backend", fence: "store" } as const

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "periscope-sqlite-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  ),
  (folder) => join(folder, "test.db")
)

const sqlite = (filename: string, table?: string) =>
  Layer.suspend(() =>
    Layer.provide(SqlCheckpoints.layer({ table }), Layer.orDie(Layer.fresh(SqliteClient.layer({ filename }))))
  )

suite(
  { describe, it },
  { name: "SQLite file", guarantees, make: Effect.map(file, (filename) => sqlite(filename)) }
)

describe.skipIf(!isInstalled(postgres))("PostgreSQL", () => {
  const scope = Effect.runSync(Scope.make())
  let server: Postgres
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startPostgres, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  const client = (url: string) => Layer.orDie(Layer.fresh(PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })))

  suite(
    { describe, it },
    {
      name: "PostgreSQL",
      guarantees,
      make: Effect.map(
        Effect.suspend(() => server.makeDatabase),
        ({ url }) => Layer.suspend(() => Layer.provide(SqlCheckpoints.layer(), client(url)))
      )
    }
  )
})
