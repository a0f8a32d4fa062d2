/**
 * An informer against what one would write: a `Map` and a sliding `PubSub`, of which nobody knows what it dropped.
 *
 * A million changes of a hundred thousand keys in pages of a thousand, with followers that keep up, and with one that is stuck;
 * what is kept of a key; what a snapshot and the copy behind it take. Times are of the processor.
 */
import { Chunk, Deferred, Effect, Exit, Fiber, Option, PubSub, Scope, Stream } from "effect"
import { Change, Source, Watcher } from "effect-periscope"
import { Informer } from "effect-periscope/control"
import { cpu, heap, median, table } from "./measure.js"

interface Value {
  readonly n: number
}

const keys = Array.from({ length: 100_000 }, (_, n) => `namespace-${n % 100}/pod-${n}`)
const pageSize = 1000

const pages = (count: number): ReadonlyArray<Chunk.Chunk<Change.Change<Value>>> =>
  Array.from({ length: count / pageSize }, (_, page) =>
    Chunk.unsafeFromArray(
      Array.from({ length: pageSize }, (_, n) => {
        const at = page * pageSize + n
        return Change.added(keys[at % keys.length]!, { n: at })
      })
    )
  )

/** A watcher that finds these, page by page. */
const fed = (changes: Stream.Stream<Change.Change<Value>>) =>
  Effect.gen(function* () {
    const watcher = yield* Watcher.make(yield* Source.memory<Value>())
    return Object.create(watcher, { changes: { value: changes } }) as Watcher.Watcher<Value>
  })

const paced = (all: ReadonlyArray<Chunk.Chunk<Change.Change<Value>>>) =>
  Stream.fromIterable(all).pipe(
    Stream.rechunk(1),
    Stream.mapEffect((page) => Effect.as(Effect.yieldNow(), page)),
    Stream.flattenChunks
  )

const informed = (followers: number, stuck: Informer.ChangesOptions | undefined) => (count: number) =>
  Effect.gen(function* () {
    const open = yield* Deferred.make<void>()
    const changes = Stream.concat(Stream.drain(Stream.fromEffect(Deferred.await(open))), paced(pages(count)))
    const informer = yield* Informer.fromWatcher(yield* fed(changes))
    let told = 0
    const follow = informer
      .changes({ from: "now" })
      .pipe(Stream.runForEachChunk((events) => Effect.sync(() => void (told += events.length))))
    const fibers = yield* Effect.replicateEffect(Effect.fork(follow), followers)
    if (stuck !== undefined) yield* Effect.forkScoped(Stream.runForEach(informer.changes(stuck), () => Effect.never))
    const end = yield* Effect.fork(Stream.runDrain(informer.changes({ from: "now" })))
    yield* Effect.repeatN(Effect.yieldNow(), 10)
    const before = process.cpuUsage()
    yield* Deferred.succeed(open, undefined)
    yield* Fiber.join(end)
    yield* Fiber.joinAll(fibers)
    const micros = cpu(before)
    if (told !== followers * count) throw new Error(`told ${told} of ${followers * count}`)
    return (micros * 1000) / count
  }).pipe(Effect.scoped)

const byHand = (followers: number) => (count: number) =>
  Effect.gen(function* () {
    const items = new Map<string, Value>()
    const hub = yield* PubSub.sliding<Change.Change<Value>>(1024)
    let told = 0
    const subscriptions = yield* Effect.replicateEffect(Stream.fromPubSub(hub, { scoped: true }), followers)
    yield* Effect.forEach(subscriptions, (stream) =>
      Effect.forkScoped(Stream.runForEachChunk(stream, (events) => Effect.sync(() => void (told += events.length))))
    )
    const all = pages(count)
    const before = process.cpuUsage()
    for (const page of all) {
      for (const change of page) {
        const previous = items.get(change.key)
        if (change._tag === "Removed") items.delete(change.key)
        else items.set(change.key, change.value)
        yield* PubSub.publish(hub, previous === undefined ? change : { ...change, previous: Option.some(previous) })
      }
      yield* Effect.yieldNow()
    }
    yield* Effect.repeatN(Effect.yieldNow(), 100)
    return (cpu(before) * 1000) / count
  }).pipe(Effect.scoped)

const timed = async (name: string, run: (count: number) => Effect.Effect<number>, count = 1_000_000) => {
  await Effect.runPromise(run(50_000))
  const nanos = []
  for (let round = 0; round < 3; round++) nanos.push(await Effect.runPromise(run(count)))
  return { name, value: median(nanos), note: `${(1e9 / median(nanos) / 1e6).toFixed(2)} M/s` }
}

const bytes = async (name: string, hold: Effect.Effect<unknown>) => {
  const before = await heap()
  const held = await Effect.runPromise(hold)
  const value = ((await heap()) - before) / keys.length
  if (held === undefined) throw new Error(name)
  return { name, value }
}

const filled = (options?: Informer.CacheOptions<Value, "namespace">) =>
  Effect.gen(function* () {
    const informer = yield* Informer.fromWatcher(
      yield* fed(Stream.flattenChunks(Stream.fromIterable(pages(keys.length)))),
      options
    )
    yield* Stream.runDrain(informer.changes({ from: "now" }))
    return { informer }
  })

const filledMap = Effect.sync(() => {
  const items = new Map<string, Value>()
  for (const page of pages(keys.length))
    for (const change of page) if (change._tag !== "Removed") items.set(change.key, change.value)
  return items
})

const pauses = Effect.gen(function* () {
  const { informer } = yield* filled()
  const before = process.cpuUsage()
  const { items } = yield* informer.snapshot
  const taken = cpu(before)
  const copying = process.cpuUsage()
  const copy = new Map(items)
  return { taken, copied: cpu(copying), size: copy.size }
}).pipe(Effect.scoped)

export const informer = async (): Promise<void> => {
  const scope = await Effect.runPromise(Scope.make())
  const held = <A>(effect: Effect.Effect<A, never, Scope.Scope>) => Scope.extend(effect, scope)
  await Effect.runPromise(Effect.scoped(filled()))
  table(
    "an informer of 100,000 keys: what is kept of a key, beside the key",
    "bytes/key",
    [
      await bytes("a Map by hand", filledMap),
      await bytes("informer", held(filled())),
      await bytes("informer, one index", held(filled({ indexes: { namespace: (_, key) => key.split("/")[0]! } })))
    ],
    "a Map by hand"
  )
  await Effect.runPromise(Scope.close(scope, Exit.void))
  table(
    "an informer: a million changes of 100,000 keys",
    "ns/change",
    [
      await timed("a Map and a PubSub by hand, no follower", byHand(0)),
      await timed("a Map and a PubSub by hand, 10 followers", byHand(10), 200_000),
      await timed("informer, 1 follower", informed(0, undefined)),
      await timed("informer, 10 followers", informed(9, undefined)),
      await timed("informer, 100 followers", informed(99, undefined), 200_000),
      await timed("informer, 1 follower and 1 that is stuck", informed(0, { from: "now" })),
      await timed("informer, 1 follower and 1 that is stuck, with resync", informed(0, { from: "now", resync: true }))
    ],
    "a Map and a PubSub by hand, no follower"
  )
  const { copied, size, taken } = await Effect.runPromise(pauses)
  console.log(
    `\n  a snapshot of ${size} keys takes ${taken} us, the copy at the first change behind it ${(copied / 1000).toFixed(1)} ms`
  )
}
