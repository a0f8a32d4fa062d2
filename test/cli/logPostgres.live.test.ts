/**
 * Goal: change logs in PostgreSQL are followed and written by the compiled command line: woken by NOTIFY, across a server that is
 * not there yet or goes away, and without a word of a password.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { isInstalled } from "../servers/installed.js"
import type { Postgres } from "../servers/postgres.js"
import { postgres, startPostgres } from "../servers/postgres.js"
import { readdirSync, readFileSync } from "node:fs"
import * as periscope from "./periscope.js"
import { entityOf, outcome } from "./sqliteLog.js"

const execute = (url: string, ...statements: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<unknown>> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    let rows: ReadonlyArray<unknown> = []
    for (const statement of statements) rows = yield* sql.unsafe(statement).values
    return rows
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.orDie)

const append = (log: string, entity: string) =>
  periscope.run(["log", "append", log, "--entity", entity, "--kind", "made", "--data", '{"n":1}'])

describe.skipIf(!isInstalled(postgres))("periscope and postgres://", { timeout: 60_000 }, () => {
  const scope = Effect.runSync(Scope.make())
  let server: Postgres
  beforeAll(async () => {
    server = await Effect.runPromise(Scope.extend(startPostgres, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  it.scopedLive("appends, tells the end, and shows at once what another process appends, at an interval of 30 s", () =>
    Effect.gen(function* () {
      const { name, url } = yield* server.makeDatabase
      const log = `${url}?table=changes`
      const shown = `postgres://127.0.0.1:${server.port}/${name}`
      const missing = yield* periscope.run(["watch", log])
      const says = `periscope: ${shown}: changes: there is no such table; create it, or name it with ?table=.\n`
      assert.deepStrictEqual(outcome(missing), [1, "", says])
      assert.deepStrictEqual(yield* execute(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"), [])
      assert.deepStrictEqual(outcome(yield* append(log, "first")), [0, '{"seq":1}\n', ""])
      const state = yield* periscope.folder
      const args = ["watch", log, "--interval", "30s", "--state", `${state}/s`]
      const cli = yield* periscope.start(args)
      yield* cli.until(() => cli.lines().length === 1)
      yield* Effect.sleep(500)
      const waits: Array<number> = []
      for (let n = 1; n <= 3; n++) {
        yield* append(log, `e${n}`)
        yield* cli.until(() => cli.lines().length === n + 1)
        const { observedAt, value } = cli.lines()[n]!
        waits.push(Date.parse(observedAt) - Date.parse(String(value!["at"])))
      }
      yield* Effect.logInfo(`from the append to the poll that saw it, in ms: ${waits.join(", ")}`)
      assert.isBelow(Math.max(...waits), 3000)
      const { id, observedAt: _, ...first } = cli.lines()[0]!
      assert.strictEqual(id, `log:${shown}#changes:1`)
      assert.deepStrictEqual(first, {
        ...{ type: "Added", source: shown, key: "1" },
        value: { seq: 1, entity: "first", kind: "made", at: first.value!["at"], data: { n: 1 } }
      })
      cli.kill("SIGKILL")
      yield* cli.exited
      yield* append(log, "after")
      const again = yield* periscope.run(["once", ...args.slice(1)])
      assert.strictEqual(periscope.parsed(again.stdout).map(entityOf).at(-1), "after")
      assert.isAtMost(periscope.parsed(again.stdout).length, 2)
      assert.deepStrictEqual(outcome(yield* periscope.run(["log", "head", log])), [0, '{"seq":5}\n', ""])
      const pruned = yield* periscope.run(["log", "prune", log, "--keep", "2", "--even-unread"])
      assert.deepStrictEqual(outcome(pruned), [0, '{"removed":3}\n', ""])
    })
  )

  it.scopedLive("waits for a server that is not there yet, and goes on when it was away", () =>
    Effect.gen(function* () {
      const { url } = yield* server.makeDatabase
      const log = `db=${url}?table=changes`
      yield* append(log, "first")
      yield* server.stop
      const once = yield* periscope.run(["once", log])
      assert.deepStrictEqual([once.code, once.stdout], [1, ""])
      assert.match(
        once.stderr,
        /^periscope: db: 127\.0\.0\.1:\d+\/test_\d+ cannot be connected to \(ECONNREFUSED\)\.\n$/
      )
      const cli = yield* periscope.start(["watch", log, "--interval", "200ms", "--max-backoff", "400ms"])
      yield* cli.until(() => cli.stderr().includes("poll failed (attempt 2"))
      yield* Effect.orDie(server.restart)
      yield* cli.until(() => cli.lines().length === 1)
      yield* Effect.orDie(server.restart)
      yield* append(log, "second")
      yield* cli.until(() => cli.lines().length === 2)
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.deepStrictEqual([code, periscope.parsed(stdout).map(entityOf)], [0, ["first", "second"]])
    })
  )

  it.scopedLive("E3 takes the password from the address or PGPASSWORD, and says it nowhere", () =>
    Effect.gen(function* () {
      const { name, url } = yield* server.makeDatabase
      const role = `locked_${name}`
      yield* append(`${url}?table=changes`, "first")
      const [[file]] = (yield* execute(url, "SHOW hba_file")) as [[string]]
      const rules = `host all ${role} 127.0.0.1/32 scram-sha-256\\n${readFileSync(file, "utf8").replaceAll("\n", "\\n")}`
      yield* execute(
        url,
        `CREATE ROLE ${role} LOGIN PASSWORD 'sec-pass'`,
        `GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`,
        `COPY (SELECT regexp_split_to_table('${rules.replaceAll("'", "''")}', '\\\\n')) TO '${file}'`,
        "SELECT pg_reload_conf()"
      )
      yield* Effect.sleep(300)
      const at = (user: string) => `n=postgresql://${user}@127.0.0.1:${server.port}/${name}?table=changes`
      const folder = yield* periscope.folder
      const state = ["--state", `${folder}/s`, "--log-level", "debug"]
      const runs = {
        wrong: yield* periscope.run(["once", at(`${role}:sec-wrong`), ...state]),
        none: yield* periscope.run(["once", at(role), ...state]),
        address: yield* periscope.run(["once", at(`${role}:sec%2Dpass`), ...state]),
        environment: yield* periscope.run(["log", "head", at(role)], { PGPASSWORD: "sec-pass" }),
        tls: yield* periscope.run(["once", `${url}?table=changes&sslmode=require`])
      }
      assert.deepStrictEqual(
        Object.values(runs).map(({ code }) => code),
        [1, 1, 0, 0, 1]
      )
      assert.match(runs.wrong.stderr, /does not let this user in \(28P01\); check user, password and sslmode/)
      assert.match(runs.none.stderr, /wants a password; set PGPASSWORD, or write it into the address/)
      assert.strictEqual(runs.environment.stdout, '{"seq":1}\n')
      assert.match(runs.tls.stderr, /speaks no TLS; write sslmode=disable/)
      const saved = readdirSync(`${folder}/s`, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => readFileSync(`${entry.parentPath}/${entry.name}`, "latin1"))
      assert.isAbove(saved.length, 0)
      for (const text of [...saved, ...Object.values(runs).flatMap(({ stderr, stdout }) => [stdout, stderr])]) {
        assert.notMatch(text, /sec[-%]/)
        assert.notInclude(text, role)
      }
    })
  )
})
