/**
 * A sync job that is killed in the middle of its work and goes on where it was: the change that it was working on comes again,
 * what it had finished does not.
 */
import { NodeContext } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Ref } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { changingServer } from "./changingServer.js"

const directory = mkdtempSync(join(tmpdir(), "periscope-"))

const run = (url: string, name: string, isCutShort: boolean) =>
  Effect.gen(function* () {
    const handled = yield* Ref.make(0)
    const fiber = yield* Watcher.runForEach(
      HttpSource.make({ url, name: "document" }),
      (change, { id, redelivered }) =>
        Effect.gen(function* () {
          yield* Console.log(name, change._tag, id, redelivered ? "again" : "")
          // the third one never ends: as if the process died within it
          if (isCutShort && (yield* Ref.updateAndGet(handled, (count) => count + 1)) === 3) return yield* Effect.never
        }),
      { interval: "150 millis", checkpoint: "document" }
    ).pipe(Effect.fork)
    yield* Effect.sleep("1500 millis")
    yield* Fiber.interrupt(fiber)
  }).pipe(Effect.provide(Checkpoints.layerFileSystem({ directory })))

const program = Effect.gen(function* () {
  const url = yield* changingServer
  yield* run(url, "first run ", true)
  yield* run(url, "second run", false)
})

const services = Layer.mergeAll(NodeClient.layer(), NodeContext.layer)

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(services)))
