/**
 * Goal: change logs in SQLite are followed by the compiled command line as its contract says, while other processes write.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs"
import type { Periscope } from "./periscope.js"
import * as periscope from "./periscope.js"
import { entityOf, execute, outcome, place } from "./sqliteLog.js"

const entities = (cli: Periscope): ReadonlyArray<unknown> => cli.lines().map(entityOf)

describe("periscope watch sqlite:", { timeout: 60_000 }, () => {
  it.scopedLive("L3 shows within milliseconds what another process appends, at an interval of 30 s", () =>
    Effect.gen(function* () {
      const { append, file, log } = yield* place
      yield* append("first", '{"big":12.50,"n":[1,2]}')
      const cli = yield* periscope.start(["watch", log, "--interval", "30s"])
      yield* cli.until(() => cli.lines().length === 1)
      yield* Effect.sleep(300)
      const waits: Array<number> = []
      for (let n = 1; n <= 3; n++) {
        yield* append(`e${n}`)
        yield* cli.until(() => cli.lines().length === n + 1)
        const { observedAt, value } = cli.lines()[n]!
        waits.push(Date.parse(observedAt) - Date.parse(String(value!["at"])))
      }
      yield* Effect.logInfo(`from the append to the poll that saw it, in ms: ${waits.join(", ")}`)
      assert.isBelow(Math.max(...waits), 2000)
      cli.kill("SIGTERM")
      const { code, stderr } = yield* cli.ended
      assert.deepStrictEqual([code, stderr], [0, ""])
      const { id, observedAt, ...first } = cli.lines()[0]!
      assert.strictEqual(id, `log:sqlite:${file}#changes:1`)
      assert.isFalse(Number.isNaN(Date.parse(observedAt)))
      assert.deepStrictEqual(first, {
        ...{ type: "Added", source: `sqlite:${file}`, key: "1" },
        value: { seq: 1, entity: "first", kind: "made", at: first.value!["at"], data: { big: 12.5, n: [1, 2] } }
      })
      assert.match(String(first.value!["at"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    })
  )

  it.scopedLive(
    "D2 prints each entry once across kill -9 while others append; only what was not committed comes again",
    () =>
      Effect.gen(function* () {
        const { appendAll, log, state } = yield* place
        const args = ["watch", log, "--interval", "30s", "--state", state]
        const named = (name: string) => Array.from({ length: 10 }, (_, n) => `${name}${n}`)
        yield* appendAll(named("start"))
        const printed: Array<unknown> = []
        const settled: Array<unknown> = named("start")
        for (const round of ["a", "b"]) {
          const cli = yield* periscope.start(args)
          yield* appendAll(named(round))
          yield* cli.until(() => entities(cli).includes(`${round}9`))
          settled.push(...named(round))
          // that what was printed is committed too cannot be seen from outside
          yield* Effect.sleep(500)
          const appending = yield* Effect.fork(appendAll(named(`${round}-kill`)))
          yield* cli.until(() => entities(cli).includes(`${round}-kill0`))
          cli.kill("SIGKILL")
          yield* cli.exited
          printed.push(...entities(cli))
          yield* appending.await
        }
        const last = yield* periscope.run(["once", ...args.slice(1)])
        printed.push(...periscope.parsed(last.stdout).map(entityOf))
        const times = (entity: unknown) => printed.filter((other) => other === entity).length
        for (const entity of settled) assert.strictEqual(times(entity), 1, String(entity))
        const struck = [...named("a-kill"), ...named("b-kill")].map(times)
        assert.isTrue(
          struck.every((count) => count === 1 || count === 2),
          struck.join()
        )
        assert.strictEqual(new Set(printed).size, 50)
        assert.deepStrictEqual(outcome(yield* periscope.run(["once", ...args.slice(1)])), [0, "", ""])
        yield* Effect.logInfo(`of 20 entries at the kills, ${struck.filter((count) => count === 2).length} came again`)
      })
  )

  it.scopedLive(
    "starts at the end with --initial suppress, takes the kinds that are wanted, and leaves the database alone",
    () =>
      Effect.gen(function* () {
        const { append, file, log, root } = yield* place
        yield* append("old")
        yield* execute(file, "PRAGMA journal_mode = DELETE")
        const tables = () => execute(file, "SELECT name FROM sqlite_master ORDER BY name")
        const before = yield* tables()
        const args = ["--interval", "30s", "--initial", "suppress"]
        const all = yield* periscope.start(["watch", log, ...args, "--state", `${root}/all`])
        const some = yield* periscope.start(["watch", `${log}&kinds=other,made2`, ...args, "--state", `${root}/some`])
        // the end of the log is saved before anything is waited for
        const hasBegun = (state: string): boolean =>
          existsSync(state) &&
          readdirSync(state, { recursive: true, withFileTypes: true }).some(
            (entry) =>
              entry.isFile() && readFileSync(`${entry.parentPath}/${entry.name}`, "latin1").includes('synced\\":true')
          )
        yield* all.until(() => hasBegun(`${root}/all`) && hasBegun(`${root}/some`))
        yield* append("new")
        yield* periscope.run(["log", "append", log, "--entity", "x", "--kind", "other"])
        yield* all.until(() => all.lines().length === 2)
        yield* some.until(() => some.lines().length === 1)
        assert.deepStrictEqual([entities(all), entities(some)], [["new", "x"], ["x"]])
        assert.deepStrictEqual(yield* tables(), before)
        assert.deepStrictEqual(yield* execute(file, "PRAGMA journal_mode"), [["delete"]])
      })
  )

  it.scopedLive("follows a database that takes the place of its own, and says that entries are gone", () =>
    Effect.gen(function* () {
      const { append, appendAll, file, log, root, state } = yield* place
      yield* appendAll(["a", "b", "c"])
      const args = ["watch", log, "--interval", "100ms", "--state", state]
      const cli = yield* periscope.start(args)
      yield* cli.until(() => cli.lines().length === 3)
      // a longer log that holds other entries under the same numbers: a backup of something else
      const other = `sqlite:${root}/other.db?table=changes`
      yield* periscope.run(["log", "append", other], {}, '{"entity":"z","kind":"made"}\n'.repeat(5))
      yield* execute(`${root}/other.db`, "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA journal_mode = DELETE")
      for (const ending of ["-wal", "-shm"]) {
        if (existsSync(file + ending)) renameSync(file + ending, `${root}/old${ending}`)
      }
      renameSync(`${root}/other.db`, file)
      const { code, stderr, stdout } = yield* cli.ended
      assert.deepStrictEqual([code, periscope.parsed(stdout).length], [1, 3])
      assert.match(
        stderr,
        /periscope: sqlite:\S+: changes: entries behind 3 are gone \(another entry has its number now/
      )
      assert.include(stderr, ` (to go on with the oldest entry there is: --reset sqlite:${file}).\n`)
      const again = yield* periscope.run(["once", ...args.slice(1), "--reset", `sqlite:${file}`])
      assert.deepStrictEqual(periscope.parsed(again.stdout).map(entityOf), ["z", "z", "z", "z", "z"])
      assert.strictEqual((yield* append("next")).stdout, '{"seq":6}\n')
    })
  )

  it.scopedLive("runs a command for each entry, which commits it", () =>
    Effect.gen(function* () {
      const { appendAll, log, root, state } = yield* place
      yield* appendAll(["a", "b", "c"])
      const seen = `${root}/seen`
      const args = ["once", log, "--state", state, "--exec", `cat >> ${seen}`]
      const first = yield* periscope.run(args)
      const names = (text: string) => periscope.parsed(text).map(entityOf)
      assert.deepStrictEqual([first.code, names(first.stdout)], [0, ["a", "b", "c"]])
      assert.deepStrictEqual(names(periscope.contents(seen)), ["a", "b", "c"])
      yield* appendAll(["d"])
      assert.deepStrictEqual(names((yield* periscope.run(args)).stdout), ["d"])
      assert.deepStrictEqual(outcome(yield* periscope.run(args)), [0, "", ""])
      assert.deepStrictEqual(names(periscope.contents(seen)), ["a", "b", "c", "d"])
    })
  )

  it.scopedLive("reads a table of an application as it is: its columns, all digits, texts that are no JSON", () =>
    Effect.gen(function* () {
      const { file } = yield* place
      yield* execute(
        file,
        "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, payload TEXT, what TEXT, written TEXT)",
        `INSERT INTO events VALUES (1, '{"n": 12345678901234567890.10}', 'made', '2026-01-02T03:04:05Z')`,
        "INSERT INTO events VALUES (2, 'no json', NULL, 'never')",
        "INSERT INTO events VALUES (9007199254740993, NULL, 'made', NULL)"
      )
      const own = "table=events&seq=id&data=payload&kind=what&at=written"
      const { code, stdout } = yield* periscope.run(["once", `e=sqlite:${file}?${own}`])
      const values = stdout.split("\n").map((line) => /"value":(.*),"observedAt"/.exec(line)?.[1])
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(values.slice(0, 3), [
        '{"seq":1,"kind":"made","at":"2026-01-02T03:04:05.000Z","data":{"n":12345678901234567890.10}}',
        '{"seq":2,"data":"no json"}',
        '{"seq":"9007199254740993","kind":"made"}'
      ])
      assert.deepStrictEqual(
        periscope.parsed(stdout).map(({ key }) => key),
        ["1", "2", "9007199254740993"]
      )
      const head = yield* periscope.run(["log", "head", `sqlite:${file}?table=events&seq=id`])
      assert.deepStrictEqual(outcome(head), [0, '{"seq":"9007199254740993"}\n', ""])
      // without a column for the data the whole row is the data
      const whole = yield* periscope.run(["once", `sqlite:${file}?table=events&seq=id`])
      assert.deepStrictEqual(Object.keys(periscope.parsed(whole.stdout)[1]!.value!["data"] as object), [
        ...["id", "payload", "what", "written"]
      ])
      const pretty = yield* periscope.run(["once", `e=sqlite:${file}?${own}`, "--format", "pretty"])
      assert.match(pretty.stdout, /^\d\d:\d\d:\d\d \+ e {2}1 {2}made \{"n":12345678901234567890.10\}\n/)
    })
  )

  it.scopedLive("refuses with one sentence what is no log, makes nothing, and exits with 1", () =>
    Effect.gen(function* () {
      const { append, file, root } = yield* place
      yield* append("a")
      yield* execute(file, "CREATE TABLE reused (seq INTEGER PRIMARY KEY, entity TEXT, kind TEXT, data TEXT)")
      mkdirSync(`${root}/dir`)
      writeFileSync(`${root}/text`, "this is no database at all")
      writeFileSync(`${root}/empty`, "")
      const before = readdirSync(root).filter((name) => !name.startsWith("app.db-"))
      const wrong: ReadonlyArray<readonly [source: string, says: RegExp]> = [
        ["none.db", /there is no file \S+none\.db, and none is made for reading/],
        ["dir", /dir is no file; name that of a SQLite database/],
        ["text", /text is no SQLite database/],
        ["empty?table=t", /t: there is no such table; create it, or name it with \?table=/],
        ["app.db?table=nope", /nope: there is no such table/],
        ["app.db?table=changes&data=nope", /it has no column "nope"/],
        ["app.db?table=reused", /numbers again, and .* or set \?assume=never-reused if nobody/]
      ]
      for (const [source, says] of wrong) {
        for (const command of [["watch"], ["once"], ["log", "head"]]) {
          const { code, stderr, stdout } = yield* periscope.run([...command, `sqlite:${root}/${source}`])
          assert.deepStrictEqual([code, stdout], [1, ""], source)
          assert.match(stderr, says)
          assert.match(stderr, /^periscope: sqlite:[^\n]*\.\n$/)
        }
      }
      assert.deepStrictEqual(
        readdirSync(root).filter((name) => !name.startsWith("app.db-")),
        before
      )
      const vouched = yield* periscope.run(["once", `sqlite:${root}/app.db?table=reused&assume=never-reused`])
      assert.deepStrictEqual(outcome(vouched), [0, "", ""])
    })
  )

  it.scopedLive("reads 100,000 entries that are there", () =>
    Effect.gen(function* () {
      const { append, file, log } = yield* place
      yield* append("first")
      const rows = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
      yield* execute(
        file,
        `INSERT INTO changes (entity, kind, data, at) ${rows} SELECT 'e' || i, 'made', json_object('n', i), 0 FROM n`
      )
      const cli = yield* periscope.start(["watch", log, "--interval", "30s"])
      const count = () => cli.stdout().length
      const startedAt = Date.now()
      yield* cli.until(() => count() > 0)
      const firstAt = Date.now()
      yield* cli.until(() => cli.stdout().slice(-500).includes('"key":"100000"'))
      yield* Effect.logInfo(
        `100,000 entries: ${Date.now() - firstAt} ms from the first line to the last, ${Date.now() - startedAt} ms in all`
      )
      cli.kill("SIGTERM")
      const { stdout } = yield* cli.ended
      const keys = periscope.parsed(stdout).map(({ key }) => Number(key))
      assert.strictEqual(keys.length, 100_000)
      assert.isTrue(keys.every((key, index) => key === index + 1))
    })
  )
})
