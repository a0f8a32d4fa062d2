/**
 * An operator: keeps a folder in line with the list of `{ path, content }` that a server publishes, whoever changes either.
 *
 * What is wanted and is missing or different is written, what is not wanted is removed. The list's guard holds a mass removal back
 * until three lists in a row confirm it. The guard forgets with the process, so nothing at all is removed before a list that came
 * three intervals after the first one.
 *
 * `DESIRED_URL=https://… FOLDER=./site npx tsx scratchpad/operator.ts`; another layer in the last lines makes it a bucket.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Config, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { Controller, Informer } from "effect-periscope/control"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import { Folder, ObjectSource, ObjectStore } from "effect-periscope/objects"

const File = Schema.Struct({ path: Schema.String, content: Schema.String })

const operator = Effect.gen(function* () {
  const url = yield* Config.string("DESIRED_URL")
  const interval = yield* Config.withDefault(Config.duration("INTERVAL"), Duration.seconds(10))
  const store = yield* ObjectStore.ObjectStore
  const list = HttpSource.collection({ url, name: "wanted", item: File, key: (file) => file.path })
  const wanted = yield* Informer.make(list, { interval })
  // files that are gone are to be written again: no reason to wait
  const there = yield* Informer.make(ObjectSource.make({ name: "there", removalGuard: false }), { interval })
  yield* Effect.all([wanted.awaitSynced, there.awaitSynced])
  const trusted = (yield* Clock.currentTimeMillis) + 3 * Duration.toMillis(interval)

  const read = (path: string) =>
    store.get(path).pipe(
      Stream.decodeText(),
      Stream.mkString,
      Effect.asSome,
      Effect.catchIf(
        ({ reason }) => reason === "NotFound",
        () => Effect.succeedNone
      )
    )

  const reconcile = (path: string) =>
    Effect.gen(function* () {
      const { lastSuccess } = yield* wanted.status
      const found = yield* read(path)
      const file = yield* wanted.get(path)
      if (Option.isSome(file)) {
        if (!Option.contains(found, file.value.content)) {
          yield* store.put(path, file.value.content)
          yield* Effect.log(`wrote ${path}`)
        }
        // what the watch has not seen yet it would not miss: until then, look again
        return Option.isSome(yield* there.get(path)) ? undefined : { requeueAfter: interval }
      }
      if (Option.isNone(found)) return
      if (Option.getOrElse(lastSuccess, () => 0) < trusted) return { requeueAfter: interval }
      yield* store.remove(path)
      yield* Effect.log(`removed ${path}`)
    })

  const controller = yield* Controller.keyed([wanted.changes({ resync: true }), there.changes({ resync: true })], {
    name: "operator",
    key: ({ key }) => key,
    reconcile,
    concurrency: 4
  })
  yield* Effect.log("the folder is kept in line")
  yield* controller.run
})

const services = Layer.merge(NodeClient.layer(), Folder.layerConfig({ root: Config.string("FOLDER") }))
operator.pipe(Effect.scoped, Effect.provide(services), NodeRuntime.runMain)
