/**
 * Goal: `periscope log` appends, prunes and tells the end of a log in SQLite as its contract says, as processes of their own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import * as periscope from "./periscope.js"
import { entityOf, execute, outcome, place } from "./sqliteLog.js"

describe("periscope log", { timeout: 60_000 }, () => {
  it.scopedLive("append makes file and table, gives the numbers, and appends all lines or none", () =>
    Effect.gen(function* () {
      const { append, file, log, root } = yield* place
      assert.deepStrictEqual(outcome(yield* append("a", "[1]")), [0, '{"seq":1}\n', ""])
      const lines = '{"entity":"b","kind":"made","data":{"x":null}}\n\n {"kind":"made","entity":"c"} '
      const several = yield* periscope.run(["log", "append", log], {}, lines)
      assert.deepStrictEqual(outcome(several), [0, '{"seq":2}\n{"seq":3}\n', ""])
      const read = ["log", "append", log, "--entity", "d", "--kind", "made", "--data", "-"]
      assert.strictEqual((yield* periscope.run(read, {}, ' "text" ')).stdout, '{"seq":4}\n')
      const half = yield* periscope.run(["log", "append", log], {}, `${lines}\n{"entity":"e"}`)
      assert.deepStrictEqual([half.code, half.stdout], [1, ""])
      assert.match(
        half.stderr,
        /^periscope: \S+: line 4 lacks a text for entity or kind; .*; nothing was appended\.\n$/
      )
      assert.match(
        (yield* periscope.run(read, {}, "{")).stderr,
        /what stands on stdin is no JSON.*nothing was appended/
      )
      assert.deepStrictEqual(yield* execute(file, "SELECT seq, entity, data FROM changes ORDER BY seq"), [
        [1, "a", "[1]"],
        [2, "b", '{"x":null}'],
        [3, "c", null],
        [4, "d", '"text"']
      ])
      const nowhere = yield* periscope.run(["log", "append", `sqlite:${root}/no/a.db`, "--entity", "e", "--kind", "k"])
      assert.match(nowhere.stderr, /there is no folder \S+\/no; make it first\.\n$/)
    })
  )

  it.scopedLive("append of several processes at once gives each entry a number of its own", () =>
    Effect.gen(function* () {
      const { append, log } = yield* place
      const all = yield* Effect.forEach(["a", "b", "c", "d"], (entity) => append(entity), { concurrency: 4 })
      assert.deepStrictEqual(
        all.map(({ code, stderr, stdout }) => `${code} ${stdout}${stderr}`).sort(),
        [1, 2, 3, 4].map((seq) => `0 {"seq":${seq}}\n`)
      )
      assert.deepStrictEqual(outcome(yield* periscope.run(["log", "head", log])), [0, '{"seq":4}\n', ""])
    })
  )

  it.scopedLive("prune removes what it is asked to, and says who holds the rest", () =>
    Effect.gen(function* () {
      const { appendAll, file, log } = yield* place
      yield* appendAll(["a", "b", "c", "d", "e"])
      const prune = (...args: ReadonlyArray<string>) => periscope.run(["log", "prune", log, ...args])
      const held = yield* prune()
      assert.deepStrictEqual([held.code, held.stdout], [0, '{"removed":0}\n'])
      assert.match(held.stderr, /info no consumer is registered, so none .*: --even-unread\n$/)
      assert.deepStrictEqual(outcome(yield* prune("--keep", "3", "--even-unread")), [0, '{"removed":2}\n', ""])
      assert.strictEqual((yield* prune("--older-than", "7d", "--even-unread")).stdout, '{"removed":0}\n')
      yield* execute(
        file,
        "INSERT INTO periscope_consumers (log, name, seq, xid, seen_at) VALUES ('changes', 'mailer', '3', '', '0')"
      )
      const slowest = '"slowest":{"name":"mailer","seq":3,"seenAt":"1970-01-01T00:00:00.000Z"}}\n'
      assert.deepStrictEqual(outcome(yield* prune()), [0, `{"removed":1,${slowest}`, ""])
      const { stdout } = yield* periscope.run(["once", log])
      assert.deepStrictEqual(periscope.parsed(stdout).map(entityOf), ["d", "e"])
    })
  )

  it.scopedLive("stands in a pipeline of a shell", () =>
    Effect.gen(function* () {
      const { log, root } = yield* place
      yield* periscope.run(["log", "append", log], {}, '{"entity":"a","kind":"made","data":1}\n'.repeat(3))
      const script =
        'once() { "$NODE" "$BIN" once "$1"; }; append() { "$NODE" "$BIN" log append "$1"; }\n' +
        `once "$FROM" | sed 's/.*"entity":"\\([a-z]*\\)".*"data":\\([0-9]*\\).*/{"entity":"\\1","kind":"copied","data":\\2}/' | append "$TO"`
      const env = { ...process.env, NODE: process.execPath, BIN: periscope.bin, FROM: log }
      const printed = execFileSync("sh", ["-c", script], {
        env: { ...env, TO: `sqlite:${root}/copy.db?table=changes` },
        encoding: "utf8"
      })
      assert.strictEqual(printed, '{"seq":1}\n{"seq":2}\n{"seq":3}\n')
      assert.deepStrictEqual(yield* execute(`${root}/copy.db`, "SELECT DISTINCT kind, data FROM changes"), [
        ["copied", "1"]
      ])
    })
  )

  it.scopedLive("says what to install where a driver is missing", () =>
    Effect.gen(function* () {
      const { append, log } = yield* place
      yield* append("a")
      const without = (name: string) => {
        const hooks = `export const resolve = (s, c, next) => { if (s.startsWith(${JSON.stringify(name)})) throw Object.assign(new Error("sec-path"), { code: "ERR_MODULE_NOT_FOUND" }); return next(s, c) }`
        const data = (text: string) => `data:text/javascript,${encodeURIComponent(text)}`
        const register = `import { register } from "node:module"; register(${JSON.stringify(data(hooks))})`
        return { NODE_OPTIONS: `--import ${data(register)}` }
      }
      const postgres = "postgres://127.0.0.1:1/x"
      const missing: ReadonlyArray<readonly [name: string, args: ReadonlyArray<string>, says: RegExp]> = [
        [
          "@effect/sql-sqlite-node",
          ["watch", log],
          /a log in SQLite needs packages .*: npm install @effect\/sql@\S+ @effect\/sql-sqlite/
        ],
        ["@effect/sql-pg", ["watch", postgres], /a log in PostgreSQL needs packages .*: npm install .*sql-pg/],
        ["@effect/sql/", ["watch", log], /a change log needs packages that are not installed: npm install @effect/],
        [
          "@effect/sql/",
          ["log", "head", log],
          /a change log needs packages that are not installed: npm install @effect/
        ]
      ]
      for (const [name, args, says] of missing) {
        const { code, stderr, stdout } = yield* periscope.run(args, without(name))
        assert.deepStrictEqual([code, stdout], [1, ""], stderr)
        assert.match(stderr, says)
        assert.notMatch(stderr, /sec-path|unexpected/)
      }
    })
  )
})
