/**
 * Makes engines from sources and options, with the services that both need.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { Checkpoints } from "./Checkpoints.js"
import type { Definition } from "./definition.js"
import { identityIn } from "./definition.js"
import { DeliveryRules } from "./delivery.js"
import { Engine } from "./engine.js"
import * as record from "./record.js"
import * as settings from "./settings.js"
import type { Source, Watchable } from "./Source.js"
import type { Failure, Options, Services } from "./watchOptions.js"

/** Claims and reads the checkpoint of a source. */
const openStore = <R>(
  source: Source<unknown, unknown, R>,
  services: Context.Context<R>,
  checkpoint: string,
  checkpoints: Context.Tag.Service<typeof Checkpoints>,
  scope: Scope.Scope,
  rules: Context.Tag.Service<typeof DeliveryRules>
) =>
  Effect.gen(function* () {
    const { item, replays, state } = source.definition
    const identity = identityIn(source.definition.identity, services)
    const claim = yield* Scope.extend(checkpoints.claim(checkpoint), scope)
    const codec: record.RecordCodec<unknown, unknown> = {
      checkpoint,
      identity,
      state,
      item,
      outbox: replays ? () => [] : rules.outbox
    }
    const recorder = new record.Recorder(codec, claim)
    if (Option.isNone(claim.stored)) return { recorder, ledger: undefined, undecodable: [] }
    return { recorder, ...(yield* record.load(codec, claim.stored.value)) }
  })

/** Makes an engine that lives until its scope closes. */
export const makeEngine = <A, E, R, O extends Options<E, unknown>>(
  watchable: Watchable<A, E, R>,
  options: O | undefined,
  scope: Scope.Scope
): Effect.Effect<Engine<A, E>, never, R | Services<O>> =>
  Effect.tap(startEngine(watchable, options, scope), (engine) => {
    engine.show()
    return Scope.addFinalizer(
      scope,
      Effect.sync(() => engine.close())
    )
  })

/** Makes an engine that is not shown yet; its checkpoint is claimed until the scope closes. */
const startEngine = <A, E, R, O extends Options<E, unknown>>(
  watchable: Watchable<A, E, R>,
  options: O | undefined,
  scope: Scope.Scope | undefined
): Effect.Effect<Engine<A, E>, never, R | Services<O>> =>
  Effect.flatMap(Effect.context<R | Services<O>>(), (context) =>
    Effect.map(DeliveryRules, (rules) => {
      const source = Context.isTag(watchable)
        ? Context.get(context, watchable as Context.Tag<R, Source<A, E>>)
        : watchable
      return unsafeMakeEngine<A, E, R, O>(source as Source<A, E, R>, options, rules, context, scope)
    })
  )

const unsafeMakeEngine = <A, E, R, O extends Options<E, unknown>>(
  source: Source<A, E, R>,
  options: O | undefined,
  rules: Context.Tag.Service<typeof DeliveryRules>,
  callers: Context.Context<R | Services<O>>,
  scope: Scope.Scope | undefined
): Engine<A, E> => {
  // what the schedules need, and Checkpoints if there is a checkpoint, is in `Services`
  const input = (options ?? {}) as Options<E, R>
  const context = callers as Context.Context<R | Checkpoints>
  const hasSpan = Option.isSome(Context.getOption(context as Context.Context<never>, Tracer.ParentSpan))
  const services = hasSpan ? Context.omit(Tracer.ParentSpan)(context) : context
  const { checkpoint, retry, schedule } = input
  return new Engine<A, E>({
    definition: source.definition as Definition<A, E, never>,
    services: services as Context.Context<never>,
    settings: settings.make(input, source.definition.timeout),
    ticks: schedule === undefined ? undefined : new settings.Steps(provideSchedule(schedule, context)),
    retry: retry === undefined ? undefined : new settings.Steps(provideSchedule(retry, context)),
    open:
      checkpoint === undefined || scope === undefined
        ? undefined
        : openStore(source, context, checkpoint, Context.get(context, Checkpoints), scope, rules),
    rules
  })
}

const provideSchedule = <Out, In, R>(
  schedule: Schedule.Schedule<Out, In, R>,
  context: Context.Context<R>
): Schedule.Schedule<Out, In> => Schedule.mapInputContext(schedule, (_: Context.Context<never>) => context)

/** Makes an engine for one use, by one consumer. Without a checkpoint it needs no scope: a scope costs an idle watcher a third of its memory. */
export const withEngine = <A, E, R, O extends Options<E, unknown>, B, E2, R2>(
  source: Watchable<A, E, R>,
  options: O | undefined,
  use: (engine: Engine<A, E>) => Effect.Effect<B, E | E2, R2>
): Effect.Effect<B, Failure<E, O> | E2, R | R2 | Services<O>> => {
  const used = (scope: Scope.Scope | undefined): Effect.Effect<B, E | E2, R | R2 | Services<O>> =>
    Effect.flatMap(startEngine(source, options, scope), (engine) => {
      engine.isForOneUse = true
      return use(engine)
    })
  const whole =
    options?.checkpoint === undefined ? used(undefined) : Effect.acquireUseRelease(Scope.make(), used, Scope.close)
  return whole as Effect.Effect<B, Failure<E, O> | E2, R | R2 | Services<O>>
}
