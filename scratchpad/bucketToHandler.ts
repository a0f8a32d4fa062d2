/**
 * From a bucket to a handler: the same program over Amazon S3 and over a folder. Which one it is, only the last lines know.
 *
 * `npx tsx scratchpad/bucketToHandler.ts` runs it over a folder of its own for a few seconds; with BUCKET set it watches
 * `configs/` of that bucket for ever, with the credentials of the environment.
 */
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { Folder, ObjectSource, ObjectStore, S3 } from "effect-periscope/objects"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const configs = ObjectSource.make({ prefix: "configs" })

const program = Watcher.runForEach(
  configs,
  (change) => Console.log(change._tag, change.key, change._tag === "Removed" ? "" : `${change.value.size} bytes`),
  { interval: "300 millis", checkpoint: "configs" }
)

/** What changes in the folder meanwhile. */
const changes = Effect.gen(function* () {
  const { put, remove } = yield* ObjectStore.ObjectStore
  for (const [key, content] of [
    ["configs/a.json", "{}"],
    ["configs/b.json", "{}"],
    ["elsewhere.json", "{}"],
    ["configs/a.json", `{"v":2}`]
  ] as const) {
    yield* put(key, content)
    yield* Effect.sleep("500 millis")
  }
  yield* remove("configs/b.json")
  yield* Effect.sleep("1 second")
})

const checkpoints = Checkpoints.layerFileSystem({ directory: mkdtempSync(join(tmpdir(), "periscope-")) }).pipe(
  Layer.provide(NodeContext.layer)
)

const overFolder = Effect.race(program, changes).pipe(
  Effect.provide(Folder.layer({ root: mkdtempSync(join(tmpdir(), "bucket-")) }))
)

const overBucket = (bucket: string) =>
  program.pipe(Effect.provide(S3.layer({ bucket }).pipe(Layer.provide(NodeClient.layer()))))

const main = Effect.gen(function* () {
  const bucket = yield* Config.option(Config.string("BUCKET"))
  if (Option.isSome(bucket)) yield* overBucket(bucket.value)
  else yield* overFolder
})

main.pipe(Effect.provide(checkpoints), NodeRuntime.runMain)
