import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import * as double from "../http/server.js"
import * as periscope from "./periscope.js"

const json = (n: number) => JSON.stringify({ n })
const fast = ["--interval", "20ms", "--max-backoff", "50ms"]

/** Whether a process is there and no zombie. */
const isAlive = (pid: number): boolean => {
  const stat = periscope.contents(`/proc/${pid}/stat`)
  return stat !== "" && !/\) [ZX] /.test(stat)
}

const setup = Effect.gen(function* () {
  const server = yield* double.startServer
  server.answer(double.content(json(1), { etag: '"1"' }))
  const folder = yield* periscope.folder
  const at = (name: string): string => `${folder}/${name}`
  return { server, at, read: (name: string) => periscope.contents(at(name)) }
})

describe("--exec", () => {
  it.scopedLive("gets each change on stdin, one after the other, and its output goes to stderr", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      server.answer(double.content(json(1)), double.content(json(2)), double.content(json(3)))
      const command = `echo begin >> ${at("log")}; cat >> ${at("log")}; sleep 0.05; echo end >> ${at("log")}; echo to-stderr`
      const cli = yield* periscope.start(["watch", `doc=${server.url()}`, ...fast, "--exec", command])
      yield* cli.until(() => cli.lines().length === 3)
      cli.kill("SIGTERM")
      const { code, stderr, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.strictEqual(stderr, "to-stderr\n".repeat(3))
      const lines = stdout.split("\n").slice(0, 3)
      assert.strictEqual(read("log"), lines.map((line) => `begin\n${line}\nend\n`).join(""))
    })
  )

  it.scopedLive("is tried again after a second until it exits with 0; only then the line is printed", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      const command = `date +%s%N >> ${at("tries")}; test -e ${at("ok")}`
      const cli = yield* periscope.start(["watch", `doc=${server.url()}`, ...fast, "--exec", command])
      yield* cli.until(() => cli.stderr().includes("attempt 2"))
      assert.strictEqual(cli.stdout(), "")
      writeFileSync(at("ok"), "")
      yield* cli.until(() => cli.lines().length === 1)
      const [first, second, third] = read("tries")
        .trim()
        .split("\n")
        .map((nanos) => Number(nanos.slice(0, -6)))
      assert.closeTo(second! - first!, 1000, 500)
      assert.closeTo(third! - second!, 2000, 500)
      assert.match(cli.stderr(), /doc: the command exited with 1 \(attempt 1, again in 1 s\)/)
      assert.strictEqual(cli.lines()[0]!.redelivered, undefined)
    })
  )

  it.scopedLive("is stopped at once while it waits to be tried again, and tried again by the next run", () =>
    Effect.gen(function* () {
      const { at, server } = yield* setup
      const args = ["watch", `doc=${server.url()}`, ...fast, "--state", at("state"), "--exec"]
      const cli = yield* periscope.start([...args, "exit 3"])
      yield* cli.until(() => cli.stderr().includes("attempt 2"))
      const before = Date.now()
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.deepStrictEqual([code, stdout], [0, ""])
      assert.isBelow(Date.now() - before, 1500)
      const next = yield* periscope.start([...args, `cat > ${at("in")}`])
      yield* next.until(() => next.lines().length === 1)
      assert.strictEqual(next.lines()[0]!.redelivered, true)
      assert.strictEqual(periscope.contents(at("in")), next.stdout())
    })
  )

  it.scopedLive("finishes and is committed at a signal", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      const args = ["watch", `doc=${server.url()}`, ...fast, "--state", at("state"), "--exec"]
      const cli = yield* periscope.start([...args, `echo begin > ${at("begun")}; sleep 1; cat > ${at("done")}`])
      yield* cli.until(() => read("begun") !== "")
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.strictEqual(read("done"), stdout)
      assert.include(stdout, '"Added"')
      const again = yield* periscope.run(["once", `doc=${server.url()}`, "--state", at("state")])
      assert.deepStrictEqual([again.code, again.stdout, again.stderr], [0, "", ""])
    })
  )

  it.scopedLive("is ended with its whole group 10 seconds after a signal", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      const command = `sleep 60 & echo $! > ${at("pid")}; wait`
      const cli = yield* periscope.start(["watch", server.url(), ...fast, "--exec", command])
      yield* cli.until(() => read("pid").includes("\n"))
      const before = Date.now()
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.deepStrictEqual([code, stdout], [0, ""])
      assert.closeTo(Date.now() - before, 10_300, 1200)
      yield* periscope.eventually(() => !isAlive(Number(read("pid"))))
    })
  )

  it.scopedLive("ends at once, with its whole group, at a second signal", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      const command = `trap "" TERM; sleep 60 & echo $! > ${at("pid")}; wait`
      const cli = yield* periscope.start(["watch", server.url(), ...fast, "--exec", command])
      yield* cli.until(() => read("pid").includes("\n"))
      cli.kill("SIGINT")
      yield* Effect.sleep(300)
      assert.isFalse(cli.hasEnded())
      const before = Date.now()
      cli.kill("SIGINT")
      assert.strictEqual((yield* cli.ended).code, 0)
      assert.isBelow(Date.now() - before, 1000)
      yield* periscope.eventually(() => !isAlive(Number(read("pid"))))
    })
  )

  it.scopedLive("is ended with its whole group by --exec-timeout, and tried again", () =>
    Effect.gen(function* () {
      const { at, read, server } = yield* setup
      const command = `test -e ${at("pid")} && exit 0; sleep 60 & echo $! > ${at("pid")}; wait`
      const cli = yield* periscope.start([
        "watch",
        `doc=${server.url()}`,
        ...fast,
        "--exec-timeout",
        "300ms",
        "--exec",
        command
      ])
      yield* cli.until(() => cli.lines().length === 1)
      assert.include(cli.stderr(), "doc: the command ran longer than 300 ms and was ended")
      yield* periscope.eventually(() => !isAlive(Number(read("pid"))))
    })
  )

  it.scopedLive("need not read its input", () =>
    Effect.gen(function* () {
      const { server } = yield* setup
      server.answer(double.content(JSON.stringify({ big: "x".repeat(500_000) })))
      const { code, stderr } = yield* periscope.run(["once", server.url(), "--exec", "true"])
      assert.deepStrictEqual([code, stderr], [0, ""])
    })
  )
})

describe("--state", () => {
  it.scopedLive("goes on where the last run stopped, in files for the owner alone", () =>
    Effect.gen(function* () {
      const { at, server } = yield* setup
      const once = periscope.run(["once", `doc=${server.url()}`, "--state", at("state")])
      assert.strictEqual(periscope.parsed((yield* once).stdout).length, 1)
      assert.strictEqual((yield* once).stdout, "")
      assert.strictEqual(server.requests.at(-1)!.headers["if-none-match"], '"1"')
      server.answer(double.content(json(2), { etag: '"2"' }))
      assert.deepStrictEqual(
        periscope.parsed((yield* once).stdout).map(({ type }) => type),
        ["Modified"]
      )
      const modes = readdirSync(at("state"), { recursive: true, encoding: "utf8" }).map((name) =>
        (statSync(`${at("state")}/${name}`).mode & 0o777).toString(8)
      )
      assert.deepStrictEqual([...new Set(modes)].sort(), ["600", "700"])
    })
  )

  it.scopedLive("is for one process: a second one says who has it", () =>
    Effect.gen(function* () {
      const { at, server } = yield* setup
      const args = ["watch", `doc=${server.url()}`, ...fast, "--state", at("state")]
      const cli = yield* periscope.start(args)
      yield* cli.until(() => cli.lines().length === 1)
      const { code, stderr, stdout } = yield* periscope.run(args)
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.strictEqual(
        stderr,
        `periscope: checkpoint directory "${at("state")}" is used by process ${cli.pid}: stop that one, or give this one a directory of its own.\n`
      )
      cli.kill("SIGKILL")
      yield* cli.ended
      // whoever comes after a killed one goes on
      const before = server.requests.length
      const next = yield* periscope.start(args)
      yield* next.until(() => server.requests.length > before)
      assert.strictEqual(server.requests[before]!.headers["if-none-match"], '"1"')
      next.kill("SIGTERM")
      assert.deepStrictEqual(yield* Effect.map(next.ended, ({ code, stdout }) => [code, stdout]), [0, ""])
    })
  )

  it.scopedLive("of another address is refused until it is forgotten", () =>
    Effect.gen(function* () {
      const { at, server } = yield* setup
      const once = (path: string, ...more: ReadonlyArray<string>) =>
        periscope.run(["once", `doc=${server.url(path)}`, "--state", at("state"), ...more])
      yield* once("/a?key=1")
      const same = yield* once("/a?key=2")
      assert.deepStrictEqual([same.code, same.stdout], [0, ""], "a name stands for the query")
      const other = yield* once("/b")
      assert.deepStrictEqual([other.code, other.stdout], [1, ""])
      assert.match(
        other.stderr,
        /^periscope: doc: The checkpoint "doc" belongs to the source .*\/a", not to .*\/b".*--reset doc\)\.\n$/
      )
      const forgotten = yield* once("/b", "--reset", "doc", "--log-level", "error")
      assert.deepStrictEqual([forgotten.code, forgotten.stderr], [0, ""])
      assert.strictEqual(periscope.parsed(forgotten.stdout)[0]!.type, "Added")
      const alone = yield* periscope.run(["watch", "--state", at("state"), "--reset", "doc", "--reset", "no"])
      assert.strictEqual(alone.code, 0)
      assert.match(alone.stderr, /doc: its checkpoint is forgotten\n.*no: there is no checkpoint of that name in/)
    })
  )

  it.scopedLive("that is damaged or no folder is told in one sentence", () =>
    Effect.gen(function* () {
      const { at, server } = yield* setup
      const once = periscope.run(["once", `doc=${server.url()}`, "--state", at("state")])
      writeFileSync(at("state"), "")
      const noFolder = yield* once
      assert.deepStrictEqual(
        [noFolder.code, noFolder.stdout, noFolder.stderr],
        [1, "", `periscope: checkpoint directory "${at("state")}" is not a directory.\n`]
      )
      const folder = at("other")
      mkdirSync(folder)
      const other = periscope.run(["once", `doc=${server.url()}`, "--state", folder])
      yield* other
      const head = readdirSync(folder, { recursive: true, encoding: "utf8" }).find((name) => /head\.\d+$/.test(name))!
      const file = `${folder}/${head}`
      writeFileSync(file, readFileSync(file, "utf8").replace('"rev"', '"rex"'))
      chmodSync(file, 0o600)
      const damaged = yield* other
      assert.deepStrictEqual([damaged.code, damaged.stdout], [1, ""])
      assert.match(damaged.stderr, /^periscope: doc: checkpoint file .* is damaged: .*\n$/)
    })
  )
})
