import { assert, describe, it } from "@effect/vitest"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Exit, Redacted, Scope } from "effect"
import { find, isInstalled } from "./installed.js"
import { postgres, startPostgres } from "./postgres.js"
import { freePort, isListening, startProcess } from "./serverProcess.js"

const missing = {
  name: "Nothing",
  commands: ["sh", "no-such-program"],
  files: ["/no/module.so"],
  install: "install it"
}

describe("isInstalled", () => {
  it("a server that is there is found by name and by path", () => {
    const tell = (sentence: string) => assert.fail(sentence)
    const environment = { PATH: process.env["PATH"], CI: "true" }
    assert.isTrue(isInstalled({ name: "a shell", commands: ["sh"], install: "" }, { environment, tell }))
    assert.isTrue(isInstalled({ name: "node", commands: [process.execPath], install: "" }, { environment, tell }))
    assert.isUndefined(find("etc", "/"), "a folder is no program")
  })

  it("a server that is not there is named with its install line", () => {
    const told: Array<string> = []
    const environment = { PATH: process.env["PATH"], CI: "" }
    assert.isFalse(isInstalled(missing, { environment, tell: (sentence) => told.push(sentence) }))
    assert.deepStrictEqual(told, [
      "Nothing is not installed (no-such-program, /no/module.so not found). To install it: install it\nIts live tests are skipped."
    ])
  })

  it("where servers are required, a missing one fails", () => {
    for (const environment of [{ CI: "true" }, { CI: "1" }, { PERISCOPE_REQUIRE_SERVERS: "1" }]) {
      assert.throws(
        () => isInstalled(missing, { environment: { PATH: process.env["PATH"], ...environment }, tell: () => {} }),
        /Nothing is not installed/
      )
    }
  })
})

describe("startProcess", () => {
  const script = (port: number) =>
    `const s = require("net").createServer(); s.listen(${port}, "127.0.0.1"); process.on("SIGTERM", () => {}); console.log("up")`

  it.live("the whole group ends with the scope, also what ignores SIGTERM", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const scope = yield* Scope.make()
      // a shell around it: the server is not the child itself
      const args = ["-c", `"${process.execPath}" -e '${script(port)}' & wait`]
      yield* Scope.extend(startProcess({ command: "sh", args, port }), scope)
      assert.isTrue(yield* isListening(port))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* isListening(port))
    })
  )

  it.live("a server that ends at once fails with what it said", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const failed = yield* Effect.flip(
        Effect.scoped(startProcess({ command: "sh", args: ["-c", "echo no licence >&2; exit 3"], port }))
      )
      assert.match(failed.message, /sh ended with 3.\nno licence/)
    })
  )
})

describe.skipIf(!isInstalled(postgres))("PostgreSQL", () => {
  it.live("databases are apart, outlive a restart, and are gone with the scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(startPostgres, scope)
      const run = (url: string, statement: string) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<{ n: number }>(statement)).pipe(
          Effect.provide(PgClient.layer({ url: Redacted.make(url), connectTimeout: "2 seconds" }))
        )
      const [one, two] = yield* Effect.all([server.makeDatabase, server.makeDatabase], { concurrency: 2 })
      yield* run(one.url, "CREATE TABLE t AS SELECT 7 AS n")
      yield* Effect.flip(run(two.url, "SELECT n FROM t"))
      yield* server.stop
      assert.isFalse(yield* isListening(server.port))
      yield* Effect.flip(run(one.url, "SELECT n FROM t"))
      yield* server.restart
      assert.deepStrictEqual(yield* run(one.url, "SELECT n FROM t"), [{ n: 7 }])
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* isListening(server.port))
    })
  )
})
