/**
 * A process that uses a checkpoint directory and gets killed.
 *
 * `hold`  opens each directory it reads from stdin, says whether it got it, and closes it at the next line.
 * `save`  saves as fast as it can, and says which revisions are saved.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { writeSync } from "node:fs"
import { createInterface } from "node:readline"
import * as Checkpoints from "../../src/core/Checkpoints.js"
import { isWhole, nextSave } from "./checkpointsSaves.js"

const [mode, directory = ""] = process.argv.slice(2)

const say = (line: string) => writeSync(1, `${line}\n`)

const open = (at: string) =>
  Layer.build(
    Layer.provide(Checkpoints.layerFileSystem({ directory: at }), Layer.merge(NodeFileSystem.layer, NodePath.layer))
  )

const save = Effect.gen(function* () {
  const store = yield* Checkpoints.Checkpoints
  const claim = yield* store.claim("stream")
  const stored = Option.getOrUndefined(claim.stored)
  if (stored !== undefined && !isWhole(stored)) return say(`torn ${stored.rev}`)
  say(`claimed ${stored?.rev ?? 0}`)
  for (let rev = (stored?.rev ?? 0) + 1; ; rev++) {
    yield* claim.save(nextSave(rev))
    say(`saved ${rev}`)
  }
})

const hold = async () => {
  let scope: Scope.CloseableScope | undefined
  for await (const line of createInterface({ input: process.stdin })) {
    if (scope !== undefined) await Effect.runPromise(Scope.close(scope, Exit.void))
    scope = undefined
    if (line === "close") {
      say("closed")
      continue
    }
    const mine = await Effect.runPromise(Scope.make())
    const result = await Effect.runPromise(Effect.either(Scope.extend(open(line), mine)))
    if (result._tag === "Right") scope = mine
    say(result._tag === "Right" ? "open" : `${result.left.reason}: ${result.left.message}`)
  }
}

if (mode === "hold") {
  say("ready")
  void hold()
} else {
  Effect.runPromise(Effect.scoped(Effect.flatMap(open(directory), (context) => Effect.provide(save, context)))).catch(
    (error) => say(`failed ${error}`)
  )
}
