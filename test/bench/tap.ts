/**
 * Events of a Tap server per second, each acknowledged after its handler: against a raw `ws` loop, and against `@atproto/tap` and
 * `@atcute/tap` where they are installed (`bash test/socket/tapClients.sh`). All of them on one server process, under the one Node
 * that the others need; their rounds alternate. The raw loop neither checks events, nor orders handlers, nor connects again.
 */
import { fork } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { median, table } from "./measure.js"
import type { Child } from "./processes.js"
import { start } from "./processes.js"
import type { Measured, Task } from "./tapClient.js"
import type { Order, Told } from "./tapServer.js"

const names: Readonly<Record<string, string>> = {
  raw: "raw ws loop",
  one: "Tap.runForEach, one at a time",
  many: "Tap.runForEach, 64 at once",
  all: "Tap.runForEach, 1000 at once",
  atproto: "@atproto/tap 0.3.12",
  atcute: "@atcute/tap 0.1.2"
}

const rounds = Number(process.env.BENCH_ROUNDS ?? 5)

interface Setting {
  readonly dids: number
  readonly bytes: number
  readonly events: number
  readonly handlerMillis: number
}

const settings: ReadonlyArray<Setting> = [
  { dids: 1, bytes: 300, events: 5000, handlerMillis: 0 },
  { dids: 1, bytes: 3000, events: 5000, handlerMillis: 0 },
  { dids: 1000, bytes: 300, events: 40_000, handlerMillis: 0 },
  { dids: 1000, bytes: 3000, events: 20_000, handlerMillis: 0 },
  { dids: 1, bytes: 300, events: 100, handlerMillis: 5 },
  { dids: 1000, bytes: 300, events: 1000, handlerMillis: 5 }
]

const modules = fileURLToPath(new URL("../tap-clients/node_modules", import.meta.url))
const otherNode = `${modules}/node-${process.platform}-${process.arch}/bin/node`

/** A client under another Node. */
const startUnder = (execPath: string, way: string): Child<Task, Measured> => {
  const child = fork(fileURLToPath(new URL("./tapClient.js", import.meta.url)), [way, modules], { execPath })
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  return {
    ask: (task) => {
      const reply = new Promise<Measured>((resolve) => child.once("message", (value) => resolve(value as Measured)))
      child.send(task)
      const died = exited.then(() => Promise.reject(new Error(`${way} ended with ${child.exitCode}`)))
      return Promise.race([reply, died])
    },
    stop: () => {
      child.kill()
      return exited
    }
  }
}

export const tap = async (): Promise<void> => {
  const hasOthers = existsSync(otherNode)
  if (!hasOthers) console.log("\nThe other clients of Tap are not installed: bash test/socket/tapClients.sh")
  const server = start<Order, Told>("./tapServer.js")
  const ways = Object.keys(names).filter((way) => hasOthers || !way.startsWith("at"))
  const children = new Map(ways.map((way) => [way, startUnder(hasOthers ? otherNode : process.execPath, way)]))
  const ask = async (way: string, { bytes, dids, events, handlerMillis }: Setting) => {
    const { url } = await server.ask({ _tag: "fill", dids, bytes, events })
    const [told, { cpuMicros }] = await Promise.all([
      server.ask({ _tag: "drained" }),
      children.get(way)!.ask({ url, events, handlerMillis })
    ])
    return { rate: (events / told.millis) * 1000, cpuMicros: cpuMicros / events }
  }
  try {
    for (const way of ways) await ask(way, { dids: 1000, bytes: 300, events: 20_000, handlerMillis: 0 })
    for (const setting of settings) {
      const { bytes, dids, events, handlerMillis } = setting
      const results = new Map(ways.map((way) => [way, [] as Array<Awaited<ReturnType<typeof ask>>>]))
      for (let round = 0; round < rounds; round++) {
        for (const [way, list] of results) list.push(await ask(way, setting))
      }
      table(
        `Tap, ${dids === 1 ? "1 DID" : `${dids} DIDs`}, ${bytes} bytes, ${handlerMillis === 0 ? "a handler that takes no time" : `a handler of ${handlerMillis} ms`}: median of ${rounds} rounds of ${events} events`,
        "events/s",
        [...results].map(([way, list]) => ({
          name: names[way]!,
          value: median(list.map(({ rate }) => rate)),
          note: `${median(list.map(({ cpuMicros }) => cpuMicros))
            .toFixed(0)
            .padStart(5)} us of the client's processor each`
        })),
        names.raw!
      )
    }
  } finally {
    await Promise.all([server, ...children.values()].map((child) => child.stop()))
  }
}
