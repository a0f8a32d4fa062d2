/**
 * A configuration that reloads itself.
 */
import { Console, Effect, Schema, Stream } from "effect"
import { Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { changingServer } from "./changingServer.js"

const Config = Schema.Struct({ version: Schema.Number })

const program = Effect.gen(function* () {
  const url = yield* changingServer
  const config = yield* Watcher.latest(HttpSource.make({ url, schema: Config }), { interval: "100 millis" })
  yield* Console.log("at start", yield* config.get)
  yield* config.changes.pipe(
    Stream.take(4),
    Stream.runForEach((newer) => Console.log("reloaded", newer))
  )
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(NodeClient.layer())))
