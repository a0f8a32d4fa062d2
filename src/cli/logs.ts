/**
 * Watches a change log that the command line opens: its rows as they are stored, so that no number in their data is rounded.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Source from "../core/Source.js"
import type { Row } from "../log/ChangeLog.js"
import { ChangeLog, ChangeLogError } from "../log/ChangeLog.js"
import * as ChangeLogSource from "../log/ChangeLogSource.js"
import * as FileHints from "../log/FileHints.js"
import * as logDatabase from "./logDatabase.js"
import { identityOf } from "./logUri.js"
import type { Plan, PlannedLog } from "./plan.js"
import type { SourceError, Watched } from "./watched.js"

export const make = ({ target }: PlannedLog, plan: Plan): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { log, name } = target
    const { database, kinds, table } = log
    const isWatch = plan.command === "watch"
    const pokes = new Set<() => void>()
    const opening = yield* logDatabase.lazily(log, isWatch ? () => pokes.forEach((poke) => poke()) : undefined)
    const withLog = <A, E>(effect: Effect.Effect<A, E, ChangeLog>) =>
      Effect.flatMap(opening.get, (log) => Effect.provideService(effect, ChangeLog, log)).pipe(
        Effect.tapError((error) =>
          // the file may have been exchanged in a way that cannot be seen
          error instanceof ChangeLogError && database.kind === "sqlite" ? opening.forget : Effect.void
        )
      )
    const { definition } = ChangeLogSource.make({ name, kinds, timeout: plan.timeoutMillis })
    const { baseline, poll } = definition
    const hints = (poke: () => void): Effect.Effect<void, never, Scope.Scope> =>
      isWatch && database.kind === "sqlite"
        ? Effect.provide(FileHints.make({ path: database.path })(table.name, poke), fileSystem)
        : Effect.asVoid(
            Effect.acquireRelease(
              Effect.sync(() => pokes.add(poke)),
              () => Effect.sync(() => pokes.delete(poke))
            )
          )
    const source = Source.fromDefinition<Row, SourceError, never>({
      ...definition,
      identity: identityOf(log),
      poll: (state, polled) => withLog(poll(state, polled)),
      baseline: baseline === undefined ? undefined : withLog(baseline),
      // what is delivered is what is stored
      change: undefined,
      parks: undefined,
      hints
    })
    return { source, progress: undefined }
  })

const fileSystem = Layer.merge(NodeFileSystem.layer, NodePath.layer)
