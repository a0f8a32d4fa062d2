/**
 * Goal: `kill -9` of readers and writers at any instant loses no entry, brings none that was not committed, and repeats only what was not
 * saved (D5, L3, L4).
 *
 * Method: two readers and a writer on one SQLite file are killed again and again. Some kills are aimed at a window by the process
 * itself, the others come from outside at random. What each reader wrote down is compared with the table in the end; the last thing
 * that it wrote down before each death says what the kill has hit.
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { compile } from "./compiled.js"

const total = 100_000
const kills = 30
const seed = Number(process.env["PERISCOPE_SEED"] ?? Date.now() % 1_000_000)

const { remove, script } = compile("test/log/killChild")
afterAll(remove)

const contents = (file: string): string => (existsSync(file) ? readFileSync(file, "utf8") : "")

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0

/** The last few lines: the whole of it is read in the end only. */
const tail = (file: string): string => {
  const size = sizeOf(file)
  if (size === 0) return ""
  const bytes = Buffer.alloc(Math.min(size, 16_000))
  const open = openSync(file, "r")
  readSync(open, bytes, 0, bytes.length, size - bytes.length)
  closeSync(open)
  return bytes.toString("utf8")
}

/** Runs a child until it is killed, by itself or after a time, or until something holds. */
const life = (args: ReadonlyArray<string>, until: { readonly millis: number; readonly done?: () => boolean }) =>
  Effect.async<NodeJS.Signals | null>((resume) => {
    const child = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "inherit", "inherit"] })
    const kill = (): void => void child.kill("SIGKILL")
    const trace = args[2]!
    const before = sizeOf(trace)
    let timer: NodeJS.Timeout | undefined
    // its time begins when it has begun
    const waiting = setInterval(() => {
      if (timer === undefined && sizeOf(trace) > before + 4) timer = setTimeout(kill, until.millis)
      if (until.done?.() === true) kill()
    }, 10)
    child.once("exit", (_, signal) => {
      clearInterval(waiting)
      clearTimeout(timer)
      resume(Effect.succeed(signal))
    })
    return Effect.sync(kill)
  })

let state = seed
const random = (): number => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0
  return state / 2 ** 32
}

const lastLine = (trace: string): string => tail(trace).trimEnd().split("\n").at(-1) ?? ""

const windowNames: Readonly<Record<string, string>> = {
  P: "poll",
  H: "handler",
  W: "commit to save",
  S: "save",
  D: "idle",
  "+": "start"
}

/** What a reader wrote down: rows that it has seen, in order, checked against what it had saved. */
const readerSaw = (trace: string) => {
  const rows: Array<readonly [seq: number, data: string]> = []
  const errors: Array<string> = []
  let saved = 0
  let repeated = 0
  let highest = 0
  for (const line of contents(trace).split("\n")) {
    if (!line.endsWith(".")) continue
    if (line.startsWith("!")) errors.push(line)
    if (line.startsWith("D ")) saved = Math.max(saved, Number(line.slice(2, -1)))
    const row = /^(\d+) (.+)\.$/.exec(line)
    if (row === null) continue
    const seq = Number(row[1])
    assert.isAbove(seq, saved, "nothing that was saved comes again")
    if (seq <= highest) repeated++
    else {
      highest = seq
      rows.push([seq, row[2]!])
    }
  }
  return { rows, repeated, errors, saved }
}

const lastSaved = (trace: string): number =>
  Number(
    /^D (-?[0-9]+)/.exec(
      tail(trace)
        .split("\n")
        .findLast((line) => line.startsWith("D ") && line.endsWith(".")) ?? ""
    )?.[1] ?? 0
  )

const table = (file: string) =>
  Effect.flatMap(
    SqliteClient.make({ filename: file }),
    (sql) => sql<{ readonly seq: number; readonly data: string }>`SELECT seq, data FROM changes ORDER BY seq`
  ).pipe(Effect.scoped, Effect.provide(Reactivity.layer))

describe("kill -9", () => {
  it.live(
    `D5 L3 L4 of readers and a writer of one SQLite file, ${total} rows, seed ${seed}`,
    () =>
      Effect.gen(function* () {
        const start = performance.now()
        const folder = mkdtempSync(join(tmpdir(), "periscope-log-"))
        const file = join(folder, "app.db")
        const hits: Record<string, number> = {}
        const hit = (who: string, trace: string): void => {
          const last = lastLine(trace).replace(/\.$/, "")
          const window = who === "writer" ? ({ B: "transaction", E: "idle" }[last] ?? "between") : windowNames[last[0]!]
          const name = `${who}: ${window ?? "handler"}`
          hits[name] = (hits[name] ?? 0) + 1
        }
        let hasWritten = false

        const writing = Effect.gen(function* () {
          const trace = join(folder, "writer")
          for (let run = 1; ; run++) {
            const target = Math.min(total, Math.ceil((total * run) / kills))
            const args = ["write", file, trace, String(seed * 1000 + run), String(target)]
            const isLast = run >= kills
            const signal = yield* life(args, {
              millis: isLast ? 60_000 : 20 + random() * 300,
              done: () => isLast && lastLine(trace) === "E."
            })
            assert.strictEqual(signal, "SIGKILL", lastLine(trace))
            hit("writer", trace)
            if (isLast) break
          }
          hasWritten = true
        })

        const reading = (name: string) =>
          Effect.gen(function* () {
            const trace = join(folder, name)
            const directory = join(folder, `${name}-state`)
            const windows = ["P", "H", "W", "S", "-", "-"]
            let run = 0
            for (; run < kills || !hasWritten; run++) {
              const aim = windows[run % windows.length]!
              const args = [
                "read",
                file,
                trace,
                String(seed * 1000 + run),
                aim,
                String(Math.floor(random() * 8)),
                directory
              ]
              const signal = yield* life(args, { millis: aim === "-" ? 20 + random() * 200 : 5000 })
              assert.strictEqual(signal, "SIGKILL", lastLine(trace))
              hit("reader", trace)
            }
            const rows = yield* table(file)
            const last = rows[rows.length - 1]!.seq
            yield* life(["read", file, trace, "1", "-", "0", directory], {
              millis: 60_000,
              done: () => lastSaved(trace) === last
            })
            const saw = readerSaw(trace)
            assert.deepStrictEqual(saw.errors, [])
            assert.strictEqual(saw.saved, last)
            // every committed row, in order, and none else
            assert.strictEqual(saw.rows.length, rows.length)
            rows.forEach(({ data, seq }, index) => {
              const [seen, what] = saw.rows[index]!
              if (seen !== seq || JSON.stringify(what) !== data)
                assert.fail(`row ${index}: ${seen} ${what}, not ${seq} ${data}`)
            })
            return { kills: run, repeated: saw.repeated }
          })

        const [, one, two] = yield* Effect.all([writing, reading("one"), reading("two")], { concurrency: 3 })
        const rows = yield* table(file)
        const rolledBack = contents(join(folder, "writer")).split("R.\n").length - 1
        console.info(
          `kill -9 of readers and a writer, seed ${seed}: ${rows.length} rows, ${rolledBack} transactions rolled back, ` +
            `writer killed ${kills} times, readers ${one.kills} and ${two.kills}, ${one.repeated} and ${two.repeated} rows again, ` +
            `in ${Math.round((performance.now() - start) / 1000)} s\nkills by window: ${JSON.stringify(hits)}`
        )
        assert.isAtLeast(rows.length, total)
        assert.isAbove(rolledBack, 0)
        for (const window of ["poll", "handler", "commit to save", "save"]) {
          assert.isAtLeast(hits[`reader: ${window}`] ?? 0, 5, `kills of readers in ${window}: ${JSON.stringify(hits)}`)
        }
        assert.isAtLeast(hits["writer: transaction"] ?? 0, 3, JSON.stringify(hits))
        rmSync(folder, { recursive: true, force: true })
      }),
    150_000
  )
})
