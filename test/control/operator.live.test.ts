/**
 * Goal: the operator of scratchpad keeps a folder in line with what a server says, through drift, bad answers and its own death,
 * and removes nothing by mistake.
 *
 * Method: it runs as a process of its own, on a folder of its own, against a scripted server; the folder is looked at from outside.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as periscope from "../cli/periscope.js"
import { content, startServer, status } from "../http/server.js"
import { compile } from "../log/compiled.js"

const interval = 100

type Files = Readonly<Record<string, string>>

const { remove, script } = compile("scratchpad/operator")
afterAll(remove)

const list = (files: Files) =>
  content(JSON.stringify(Object.entries(files).map(([path, content]) => ({ path, content }))))

/** The files of a folder, with its sub-folders. */
const filesOf = (folder: string): Files =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
      .map((entry) => join(entry.parentPath, entry.name))
      .map((file) => [file.slice(folder.length + 1), readFileSync(file, "utf8")] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1))
  )

const sameFiles = (folder: string, files: Files): boolean => {
  try {
    const sorted = Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))
    return JSON.stringify(Object.entries(filesOf(folder))) === JSON.stringify(sorted)
  } catch {
    // a file went while it was looked at
    return false
  }
}

/** What it says that it did. */
const deeds = (output: string): ReadonlyArray<string> =>
  [...output.matchAll(/: ((?:wrote|removed) .*)$/gm)].map(([_, deed = ""]) => deed).sort()

const start = (url: string, folder: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const env = { ...process.env, DESIRED_URL: url, FOLDER: folder, INTERVAL: `${interval} millis` }
        return spawn(process.execPath, [script], { env, stdio: "pipe" })
      }),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    ),
    (child) => {
      let output = ""
      let code: number | null | undefined
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (text: Buffer) => (output += text.toString()))
      child.once("exit", (exitCode) => (code = exitCode))
      return {
        output: () => output,
        kill: (signal: NodeJS.Signals) => {
          child.kill(signal)
          return Effect.map(
            periscope.eventually(() => code !== undefined),
            () => code
          )
        },
        until: (what: () => boolean) =>
          periscope.eventually(what, () => `${output}\n${JSON.stringify(filesOf(folder))}`)
      }
    }
  )

/** So many polls have been answered by the server after this. */
const polls = (server: { readonly requests: ReadonlyArray<unknown> }, count: number) =>
  Effect.suspend(() => {
    const then = server.requests.length + count
    return periscope.eventually(() => server.requests.length >= then)
  })

const wanted: Files = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`site/page ${n}.html`, `<h1>${n}</h1>`]))

const { "site/page 3.html": _, ...withoutThree } = wanted

describe("the operator of scratchpad", () => {
  it.scopedLive(
    "keeps a folder in line, repairs drift, and believes no bad answer",
    () =>
      Effect.gen(function* () {
        yield* periscope.run(["--version"]) // compiles
        const folder = yield* periscope.folder
        const server = yield* startServer
        writeFileSync(join(folder, "stray.txt"), "not wanted")
        server.answer(list(wanted))
        const operator = yield* start(server.url("/files"), folder)
        yield* operator.until(() => sameFiles(folder, wanted))
        const next = { ...withoutThree, "site/page 1.html": "<h1>one</h1>", "added/deep/down.txt": "new" }
        server.answer(list(next))
        yield* operator.until(() => sameFiles(folder, next))

        // 12 and a stray, then one of each kind; a file is there before the line that says so
        yield* operator.until(() => deeds(operator.output()).length === 16)

        // drift: of all three kinds
        const before = operator.output().length
        writeFileSync(join(folder, "site/page 5.html"), "defaced")
        rmSync(join(folder, "site/page 6.html"))
        writeFileSync(join(folder, "site/page 3.html"), "is back")
        yield* operator.until(() => sameFiles(folder, next) && deeds(operator.output().slice(before)).length >= 3)
        assert.deepStrictEqual(deeds(operator.output().slice(before)), [
          "removed site/page 3.html",
          "wrote site/page 5.html",
          "wrote site/page 6.html"
        ])

        // what it wrote a moment ago, before its watch of the folder has seen that
        const rewritten = () => deeds(operator.output()).filter((deed) => deed === "wrote site/page 7.html").length
        for (let n = rewritten(); n < 6; n++) {
          rmSync(join(folder, "site/page 7.html"))
          yield* operator.until(() => rewritten() > n)
        }
        yield* operator.until(() => sameFiles(folder, next))

        // all of it at once
        rmSync(join(folder, "site"), { recursive: true })
        yield* operator.until(() => sameFiles(folder, next))

        // what is no answer, and an answer that cannot be: once or twice
        for (const bad of [status(500), status(403), content("<html>"), content("[{}]")]) {
          server.answer(bad)
          yield* polls(server, 1)
          server.answer(list(next))
          yield* polls(server, 3)
          assert.isTrue(sameFiles(folder, next))
        }
        server.answer(list({}), list({ "site/page 0.html": "<h1>0</h1>" }), list(next))
        yield* polls(server, 6)
        assert.isTrue(sameFiles(folder, next), operator.output())
        const removed = deeds(operator.output()).filter((deed) => deed.startsWith("removed"))
        assert.deepStrictEqual(removed, ["removed site/page 3.html", "removed site/page 3.html", "removed stray.txt"])

        // but one that stays is meant
        server.answer(list({ "site/page 0.html": "<h1>0</h1>" }))
        yield* operator.until(() => sameFiles(folder, { "site/page 0.html": "<h1>0</h1>" }))
        assert.strictEqual(yield* operator.kill("SIGTERM"), 0)
      }),
    30_000
  )

  it.scopedLive(
    "makes up after a restart for what it missed, writes nothing twice, and is not fooled by its first list",
    () =>
      Effect.gen(function* () {
        yield* periscope.run(["--version"])
        const folder = yield* periscope.folder
        const server = yield* startServer
        server.answer(list(wanted))
        for (const n of [0, 1, 2]) {
          // killed while it writes
          const first = yield* start(server.url("/files"), folder)
          yield* first.until(() => Object.keys(filesOf(folder)).length > 4 * n)
          yield* first.kill("SIGKILL")
        }
        const second = yield* start(server.url("/files"), folder)
        yield* second.until(() => sameFiles(folder, wanted))
        yield* second.kill("SIGKILL")

        const times = () => Object.keys(filesOf(folder)).map((file) => [file, statSync(join(folder, file)).mtimeMs])
        const untouched = new Map(times().map(([file, time]) => [file, time]))
        const next = { ...withoutThree, "site/page 1.html": "<h1>one</h1>" }
        writeFileSync(join(folder, "site/page 5.html"), "defaced")
        mkdirSync(join(folder, "strays"))
        writeFileSync(join(folder, "strays/stray.txt"), "not wanted")
        server.answer(list({}), list(next))
        const third = yield* start(server.url("/files"), folder)
        yield* third.until(() => sameFiles(folder, next) && deeds(third.output()).length >= 4)
        assert.deepStrictEqual(deeds(third.output()), [
          "removed site/page 3.html",
          "removed strays/stray.txt",
          "wrote site/page 1.html",
          "wrote site/page 5.html"
        ])
        const touched = times().filter(([file, time]) => untouched.get(file!) !== time)
        assert.deepStrictEqual(touched.map(([file]) => file).sort(), ["site/page 1.html", "site/page 5.html"])
      }),
    30_000
  )
})
