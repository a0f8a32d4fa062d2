/**
 * Goal: `kill -9` of what follows a Tap server, a hundred times in 100,000 events, loses none of them and changes no order within a
 * DID; no ack is ever sent for an event that was not handled (D5, S5, S6).
 *
 * Method: two processes share the channel and are killed again and again. Most kills are aimed at a window by the process itself, the
 * others come from outside at random. They write down what they do into one file, which says in the end what was handled, in which
 * order, and what each kill has hit.
 */
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as TapServer from "../../src/testing/TapServer.js"
import { bundle } from "./tapBundle.js"

const total = 100_000
const kills = 100
const dids = 200
const seed = Number(process.env["PERISCOPE_SEED"] ?? Date.now() % 1_000_000)

const { remove, script } = bundle("test/socket/tapKillChild")
afterAll(remove)

let state = seed
const random = (): number => {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0
  return state / 2 ** 32
}

/** Runs a child until it is killed, by itself or after a time. */
const life = (args: ReadonlyArray<string>, millis: number) =>
  Effect.async<NodeJS.Signals | null>((resume) => {
    const child = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "inherit", "inherit"] })
    const kill = (): void => void child.kill("SIGKILL")
    const timer = setTimeout(kill, millis)
    child.once("exit", (_, signal) => {
      clearTimeout(timer)
      resume(Effect.succeed(signal))
    })
    return Effect.sync(kill)
  })

const windowNames: Readonly<Record<string, string>> = {
  "+": "start",
  C: "connecting",
  R: "received",
  H: "handler",
  W: "handled",
  S: "sending acks",
  A: "sent acks"
}

interface Seen {
  readonly handled: Map<string, Array<number>>
  readonly repeated: number
  readonly early: ReadonlyArray<string>
  readonly hits: Readonly<Record<string, number>>
}

/** What the processes wrote down, oldest first. */
const read = (trace: string): Seen => {
  const handled = new Map<string, Array<number>>()
  const last = new Map<string, string>()
  const early: Array<string> = []
  let repeated = 0
  for (const line of readFileSync(trace, "utf8").split("\n")) {
    const [, run, what, did, number] = /^(\d+) (.)(?: (\S+) (\d+))?\.$/.exec(line) ?? []
    if (run === undefined || what === undefined) continue
    last.set(run, what)
    if (did === undefined || (what !== "W" && what !== "H")) continue
    const n = Number(number)
    const before = handled.get(did) ?? []
    handled.set(did, before)
    // the first sight of an event is behind the end of the one before it
    if (n > before.length) early.push(line)
    if (what === "H") continue
    if (n < before.length) repeated++
    else before.push(n)
  }
  const hits: Record<string, number> = {}
  for (const what of last.values()) hits[windowNames[what]!] = (hits[windowNames[what]!] ?? 0) + 1
  return { handled, repeated, early, hits }
}

describe("kill -9", () => {
  it.scopedLive(
    `D5 S5 S6 of followers of a Tap server, ${kills} kills in ${total} events, seed ${seed}`,
    () =>
      Effect.gen(function* () {
        const start = performance.now()
        const folder = mkdtempSync(join(tmpdir(), "periscope-tap-"))
        const trace = join(folder, "trace")
        const server = yield* TapServer.make({ retryTimeout: 60, deleteInterval: 20 })
        let added = 0
        const add = (count: number): void => {
          for (const end = Math.min(total, added + count); added < end; added++) {
            server.record({ did: `did:plc:${added % dids}`, rkey: String(Math.floor(added / dids)) })
          }
        }
        const windows = ["C", "R", "H", "W", "S", "A", "-"]
        let run = 0
        const dying = Effect.gen(function* () {
          while (run < kills) {
            const number = run++
            add(total / kills)
            const aim = windows[number % windows.length]!
            const skip = aim === "C" ? 0 : Math.floor(random() * (aim === "S" || aim === "A" ? 20 : 600))
            const args = [server.url, trace, String(number), String(seed + number), aim, String(skip)]
            const signal = yield* life(args, aim === "-" ? 250 + random() * 400 : 3000)
            assert.strictEqual(signal, "SIGKILL")
          }
        })
        yield* Effect.all([dying, dying], { concurrency: 2 })
        const last = yield* Effect.fork(life([server.url, trace, String(run), "1", "-", "0"], 60_000))
        yield* server.drained
        yield* last.interruptAsFork(last.id())
        const { early, handled, hits, repeated } = read(trace)
        rmSync(folder, { recursive: true, force: true })
        console.info(
          `kill -9 of followers of a Tap server, seed ${seed}: ${added} events of ${dids} DIDs, ${kills} kills, ` +
            `${repeated} events again, in ${Math.round((performance.now() - start) / 1000)} s\n` +
            `kills by window: ${JSON.stringify(hits)}`
        )
        assert.strictEqual(added, total)
        assert.deepStrictEqual(early, [], "an event before the one before it was handled")
        assert.strictEqual(handled.size, dids)
        for (const [did, seen] of handled) assert.deepStrictEqual(seen, [...Array(total / dids).keys()], did)
        assert.deepStrictEqual(server.strayAcks, [])
        assert.isAbove(repeated, 0)
        for (const window of ["connecting", "received", "handler", "handled", "sending acks", "sent acks"]) {
          assert.isAtLeast(hits[window] ?? 0, 5, `kills in ${window}: ${JSON.stringify(hits)}`)
        }
      }),
    150_000
  )
})
