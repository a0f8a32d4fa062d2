/**
 * The engine spelled out with Effect's own parts: what a watcher does, less its state and its checkpoint.
 *
 * A poll is retried with an exponential backoff that gives up after a bounded outage; the retried poll repeats on a schedule
 * as a stream; the fiber that runs the stream is interrupted; layers provide the HTTP client and the store of checkpoints.
 */
import { HttpClient } from "@effect/platform"
import { Console, Effect, Fiber, Layer, Schedule, Stream } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { changingServer } from "./changingServer.js"

const backoff = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.upTo("1 minute")
)

const composed = (url: string) => {
  const poll = HttpClient.get(url).pipe(
    Effect.flatMap((response) => response.text),
    Effect.scoped
  )
  return Stream.repeatEffectWithSchedule(Effect.retry(poll, backoff), Schedule.spaced("200 millis")).pipe(
    Stream.changes,
    Stream.runForEach((text) => Console.log(`composed   ${text}`))
  )
}

const watched = (url: string) =>
  Watcher.runForEach(
    HttpSource.make({ url, name: "document" }),
    (change) => Console.log(`watched    ${change._tag} ${change._tag === "Removed" ? "" : change.value.text}`),
    { interval: "200 millis", retry: backoff, checkpoint: "document" }
  )

const program = Effect.gen(function* () {
  const url = yield* changingServer
  const fiber = yield* Effect.fork(Effect.all([composed(url), watched(url)], { concurrency: 2 }))
  yield* Effect.sleep("2 seconds")
  yield* Fiber.interrupt(fiber)
  yield* Console.log("interrupted: nothing polls any more")
})

const services = Layer.mergeAll(NodeClient.layer(), Checkpoints.layerMemory)

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(services)))
