/**
 * Goal: `kill -9` at any instant loses no change, repeats only the one in flight and never tears the state (D5).
 *
 * Method: a server counts its document up; `watch --state --exec` follows it and is killed a hundred times, each time aimed at
 * one window. What is there after the death proves which window the kill hit:
 *
 * - poll: the server had the request of that run and had not begun to answer it;
 * - accept to save: a save was under way (its `temp.*` file is there) of a version that no command had been given;
 * - handler: the command had begun with the version and not ended;
 * - commit to save: the command had ended, and the record still held the version as undelivered.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { FSWatcher } from "node:fs"
import { appendFileSync, existsSync, readdirSync, readFileSync, watch, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { decodeHead } from "../../src/core/checkpointRecord.js"
import type { Line } from "./periscope.js"
import * as periscope from "./periscope.js"

const windows = ["poll", "accept to save", "handler", "commit to save"] as const
type Window = (typeof windows)[number] | "save to handler" | "elsewhere"

/** What the server saw of the runs, in order. */
interface Exchange {
  readonly run: number
  readonly noneMatch: number
  answered: "no" | "unchanged" | number
}

const startServer = Effect.acquireRelease(
  Effect.async<{ readonly url: string; readonly state: ServerState; readonly close: () => void }>((resume) => {
    const state: ServerState = { version: 1, exchanges: [], onRequest: undefined }
    const server = createServer((request, response) => {
      const run = Number(request.headers["x-run"])
      const noneMatch = Number(/\d+/.exec(request.headers["if-none-match"] ?? "")?.[0] ?? 0)
      const exchange: Exchange = { run, noneMatch, answered: "no" }
      state.exchanges.push(exchange)
      // true: this request is not answered, its run is killed instead
      if (state.onRequest?.(run) === true) return
      const n = state.version
      exchange.answered = noneMatch === n ? "unchanged" : n
      if (noneMatch === n) response.writeHead(304, { etag: `"${n}"` }).end()
      else {
        response.writeHead(200, { "content-type": "application/json", etag: `"${n}"` }).end(JSON.stringify({ n }))
      }
    })
    const counting = setInterval(() => void state.version++, 45)
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      resume(
        Effect.succeed({
          url: `http://127.0.0.1:${port}/doc`,
          state,
          close: () => {
            clearInterval(counting)
            server.closeAllConnections()
            server.close()
          }
        })
      )
    })
  }),
  ({ close }) => Effect.sync(close)
)

interface ServerState {
  version: number
  readonly exchanges: Array<Exchange>
  onRequest: ((run: number) => boolean) | undefined
}

/** A record as it lies on the disk; its checksum is checked. */
interface Stored {
  /** The newest version that the state knows, and those that are not committed. */
  readonly known: number
  readonly uncommitted: number
  readonly isSaving: boolean
}

const readRecord = (folder: string): Stored => {
  const files = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }) : []
  const heads = files.filter((name) => /head\.\d+$/.test(name))
  const isSaving = files.some((name) => /\/temp\.\d+$/.test(name))
  assert.isAtMost(heads.length, 1)
  if (heads.length === 0) return { known: 0, uncommitted: 0, isSaving }
  const { head } = Either.getOrThrow(decodeHead(readFileSync(`${folder}/${heads[0]}`, "utf8")))
  const { next, prefix, state } = JSON.parse(head)
  assert.isAtMost(next - 1 - prefix, 1)
  return { known: Number(/\d+/.exec(state.etag ?? "0")![0]), uncommitted: next - 1 - prefix, isSaving }
}

const versionOf = (line: Line): number => (line.value!["json"] as { readonly n: number }).n

/** The lines that commands appended: what they were given, or that they ended. */
const read = (file: string): ReadonlyArray<Line> => periscope.parsed(periscope.contents(file))

const lane = (lane: number, kills: number, hits: Record<Window, number>) =>
  Effect.gen(function* () {
    const server = yield* startServer
    const folder = yield* periscope.folder
    const [state, begun, ended] = [`${folder}/state`, `${folder}/begun`, `${folder}/ended`]
    writeFileSync(begun, "")
    writeFileSync(ended, "")
    // dd appends what it is given in one write and syncs it
    const append = (file: string): string => `dd of=${file} oflag=append conv=notrunc,fsync bs=64k status=none`
    const command = `change=$(cat); printf '%s\\n' "$change" | ${append(begun)}; sleep 0.02; printf '%s\\n' "$change" | ${append(ended)}`
    const args = (run: number): ReadonlyArray<string> => [
      ...["watch", `doc=${server.url}`, "--interval", "20ms", "--max-backoff", "40ms", "--state", state],
      ...["--header", `X-Run: ${run}`, "--exec", command]
    ]
    const repeated: Array<{ readonly id: string; readonly wasUncommitted: boolean }> = []
    const given: Array<string> = []
    const cut: Array<string> = []

    for (let run = 1; run <= kills; run++) {
      const aim = windows[(run + lane) % windows.length]!
      const skip = Math.floor(run / windows.length) % 3
      const before = read(begun).length
      // half of the kills take the command along, as when the whole machine dies; else it lives on without its parent
      const wasCut = run % 8 < 4
      yield* Effect.scoped(
        Effect.gen(function* () {
          const cli = yield* periscope.start(args(run))
          yield* killed(cli, aim, skip, wasCut, server.state, run, folder)
          yield* cli.exited
          hits[classify(server.state.exchanges, run, readRecord(state), read(begun), read(ended))]++
          const death = yield* cli.ended
          assert.deepStrictEqual([death.code, death.signal, death.stderr], [null, "SIGKILL", ""])
        })
      )
      for (const { id } of read(begun).slice(before)) {
        if (given.includes(id)) repeated.push({ id, wasUncommitted: given.at(-1) === id })
        given.push(id)
      }
      if (wasCut) {
        const line = read(begun).at(-1)!
        if (read(begun).length > read(ended).length) {
          cut.push(line.id)
          appendFileSync(ended, `${JSON.stringify(line)}\n`)
        }
      }
      // let an orphaned command end, so that what it appends belongs to its own run
      yield* periscope.eventually(() => read(ended).length === read(begun).length)
    }

    // undisturbed, it comes to the last version
    const cli = yield* periscope.start(args(0))
    yield* cli.until(() => server.state.exchanges.some(({ run }) => run === 0))
    const last = (server.state.version += 1000)
    yield* cli.until(() => read(begun).some((line) => versionOf(line) >= last))
    cli.kill("SIGTERM")
    assert.strictEqual((yield* cli.ended).code, 0)

    const versions = read(begun).map(versionOf)
    for (let i = 1; i < versions.length; i++) {
      assert.isAtLeast(versions[i]!, versions[i - 1]!, "versions come in order")
    }
    const ids = read(begun).map(({ id }) => id)
    ids.forEach((id, index) => {
      const again = ids.indexOf(id) < index
      if (!again) return
      assert.strictEqual(ids[index - 1], id, "only what was in flight comes again")
      assert.isTrue(read(begun)[index]!.redelivered, "and says so")
    })
    for (const id of cut) {
      assert.isAbove(ids.lastIndexOf(id), ids.indexOf(id), "a change whose command was cut comes again")
    }
    assert.isTrue(repeated.every(({ wasUncommitted }) => wasUncommitted))
    // a validator comes back only for content that was accepted: each of those versions reached the command
    const delivered = new Set(versions)
    for (const { noneMatch } of server.state.exchanges) {
      if (noneMatch > 0)
        assert.isTrue(delivered.has(noneMatch), `version ${noneMatch} was accepted and never delivered`)
    }
    const { known, uncommitted } = readRecord(state)
    assert.deepStrictEqual([known, uncommitted], [versions.at(-1)!, 0])
    return { deliveries: versions.length, cut: cut.length, repeats: ids.length - new Set(ids).size }
  })

const children = (pid: number): ReadonlyArray<number> =>
  periscope
    .contents(`/proc/${pid}/task/${pid}/children`)
    .split(" ")
    .filter((child) => child.trim() !== "")
    .map(Number)

const killGroup = (pid: number): void => {
  try {
    process.kill(-pid, "SIGKILL")
  } catch {
    // it has just ended
  }
}

/** Kills the run when its window opens. */
const killed = (
  cli: periscope.Periscope,
  aim: (typeof windows)[number],
  skip: number,
  withCommand: boolean,
  server: ServerState,
  run: number,
  folder: string
): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const watchers: Array<FSWatcher> = []
    let left = skip
    let isDone = false
    const kill = (): void => {
      if (isDone) return
      isDone = true
      const commands = withCommand ? children(cli.pid) : []
      cli.kill("SIGKILL")
      for (const pid of commands) killGroup(pid)
      server.onRequest = undefined
      for (const watcher of watchers) watcher.close()
      clearTimeout(late)
      resume(Effect.void)
    }
    const late = setTimeout(kill, 5000)
    const on = (name: string, isIt: (file: string) => boolean): void => {
      watchers.push(
        watch(`${folder}/${name}`, (_, file) => {
          if (isIt(file ?? "") && left-- <= 0) kill()
        })
      )
    }
    const sizes = { begun: 0, ended: 0 }
    for (const name of ["begun", "ended"] as const) sizes[name] = periscope.contents(`${folder}/${name}`).length
    let isHandling = sizes.begun > sizes.ended
    // the first request of a run shows that the state folder is there, so that it can be watched
    let isPrepared = false
    server.onRequest = (from) => {
      if (from !== run || isDone) return false
      if (!isPrepared) {
        isPrepared = true
        if (aim === "handler") on("begun", () => true)
        if (aim === "commit to save") on("ended", () => true)
        if (aim === "accept to save") {
          watch(`${folder}/begun`, () => void (isHandling = true)).unref()
        }
      }
      if (aim === "poll" && left-- <= 0) {
        setImmediate(kill)
        return true
      }
      if (aim === "accept to save") {
        const record = readdirSync(`${folder}/state`).find((name) => name.startsWith("doc-"))
        if (record !== undefined && watchers.length === 0) {
          on(`state/${record}`, (file) => file.startsWith("temp.") && !isHandling)
        }
        isHandling = false
      }
      return false
    }
    return Effect.sync(kill)
  })

/** Which window the kill has hit, by what is left. */
const classify = (
  exchanges: ReadonlyArray<Exchange>,
  run: number,
  { isSaving, known, uncommitted }: Stored,
  begun: ReadonlyArray<Line>,
  ended: ReadonlyArray<Line>
): Window => {
  if (begun.length > ended.length) return "handler"
  const last = exchanges.filter((exchange) => exchange.run === run).at(-1)
  if (uncommitted > 0)
    return ended.length > 0 && versionOf(ended.at(-1)!) === known ? "commit to save" : "save to handler"
  if (isSaving && typeof last?.answered === "number" && last.answered !== known) return "accept to save"
  return last?.answered === "no" ? "poll" : "elsewhere"
}

describe("kill -9", () => {
  it.scopedLive(
    "a hundred times loses nothing, repeats only what was in flight and keeps the state whole",
    () =>
      Effect.gen(function* () {
        const hits: Record<Window, number> = {
          poll: 0,
          "accept to save": 0,
          handler: 0,
          "commit to save": 0,
          "save to handler": 0,
          elsewhere: 0
        }
        const lanes = yield* Effect.forEach([0, 1], (index) => lane(index, 50, hits), { concurrency: 2 })
        console.info("kills by window:", JSON.stringify(hits), JSON.stringify(lanes))
        for (const window of windows) assert.isAtLeast(hits[window], 5, `kills in ${window}: ${JSON.stringify(hits)}`)
      }),
    180_000
  )
})
