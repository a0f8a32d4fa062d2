/**
 * A listing of ten thousand, a hundred thousand and a million objects against the Map that one would write: what a walk costs
 * a key when nothing has changed and when 1 % has, what is kept of a key, and how long the longest page takes.
 *
 * Names are like `logs/2026/11/21/part-000000123.parquet`, or UUIDs. Pages of 1000 come as JSON, which is parsed before the
 * clock starts. Of three walks (two first ones) each page counts at its fastest.
 */
import { Effect, Option } from "effect"
import { Source } from "effect-periscope"
import { ObjectStore } from "effect-periscope/objects"
import { heap, heapNow } from "./measure.js"

type Meta = ObjectStore.ObjectMeta

const pageSize = 1000

const hex8 = (value: number): string => (value >>> 0).toString(16).padStart(8, "0")

/** Numbers that look random. */
const scatter = (value: number): number => {
  let mixed = Math.imul(value ^ (value >>> 16), 0x45d9f3b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0x27d4eb2f)
  return mixed ^ (mixed >>> 15)
}

type Names = (index: number, count: number) => string

const counter: Names = (index) => `logs/2026/11/21/part-${String(index).padStart(9, "0")}.parquet`

// in order
const uuid: Names = (index, count) => {
  const [b, c, d] = [scatter(3 * index), scatter(3 * index + 1), scatter(3 * index + 2)].map(hex8) as [
    string,
    string,
    string
  ]
  return `${hex8(Math.floor(((index + 0.5) * 2 ** 32) / count))}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${d}`
}

/** A bucket whose objects are made up as they are listed. */
class Bucket {
  /** Every hundredth object has another ETag in each version. */
  version = 0
  /** Objects from there on are gone. */
  end: number
  /** How many objects of the first page are missing in it: then pages do not lie on blocks. */
  shift = 0
  constructor(
    readonly count: number,
    readonly names: Names
  ) {
    this.end = count
  }

  private meta(index: number): Meta {
    const seed = index % 100 === 37 ? index + this.version * 0x1000003 : index
    return {
      key: this.names(index, this.count),
      size: (scatter(index) >>> 0) % 10_000_000,
      etag: `"${[7, 8, 9, 10].map((salt) => hex8(scatter(seed * 16 + salt))).join("")}"`,
      lastModifiedMillis: 1_760_000_000_000 + 1000 * ((scatter(seed + 5) >>> 0) % 5_000_000)
    }
  }

  *pages(): Generator<ReadonlyArray<Meta>> {
    for (let from = -this.shift; from < this.end; from += pageSize) {
      const page: Array<Meta> = []
      for (let index = Math.max(0, from); index < Math.min(this.end, from + pageSize); index++)
        page.push(this.meta(index))
      yield JSON.parse(JSON.stringify(page))
    }
  }
}

/** What every page took, in nanoseconds, and how many changes were found. */
interface Walk {
  readonly pages: ReadonlyArray<number>
  readonly changes: number
}

/** What keeps a listing: takes page after page, tells how many changes it found. */
interface Keeper {
  readonly page: (items: ReadonlyArray<Meta>, isLast: boolean) => number
}

const plainMap = (): Keeper => {
  let known = new Map<string, Meta>()
  let next = new Map<string, Meta>()
  return {
    page: (items, isLast) => {
      let changes = 0
      for (const item of items) {
        const before = known.get(item.key)
        if (before === undefined || before.etag !== item.etag) changes++
        next.set(item.key, item)
      }
      if (isLast) {
        for (const key of known.keys()) if (!next.has(key)) changes++
        known = next
        next = new Map()
      }
      return changes
    }
  }
}

/** What is kept of an object beside its key and its ETag. */
const text: Source.ItemText<Meta> = {
  encode: ({ lastModifiedMillis, size }) => `${size},${lastModifiedMillis}`,
  decode: (kept, key, etag) => {
    const [size, lastModifiedMillis] = kept.split(",").map(Number) as [number, number]
    return { key, etag, size, lastModifiedMillis }
  }
}

type Mode = Pick<Source.ListingOptions<Meta, Meta, number, never, never>, "snapshot" | "text">

const listing = (mode: Mode) => {
  let items: ReadonlyArray<Meta> = []
  let next: number | undefined
  let pages = 0
  const { definition } = Source.fromListing<Meta, Meta, number>({
    name: "bench",
    item: ObjectStore.ObjectMeta,
    list: () => Effect.sync(() => ({ items, next })),
    key: (item) => item.key,
    version: (item) => item.etag ?? "",
    ...mode
  })
  let state: unknown = definition.initial
  const poll = (given: ReadonlyArray<Meta>, isLast: boolean) => {
    items = given
    next = isLast ? undefined : ++pages
    return Effect.map(definition.poll(state, { committed: state, watcher: {} }), (found) => {
      state = found.state
      return found.changes.length
    })
  }
  return {
    definition,
    get state() {
      return state
    },
    poll,
    page: (given: ReadonlyArray<Meta>, isLast: boolean) => Effect.runSync(poll(given, isLast))
  }
}

const walk = (bucket: Bucket, keeper: Keeper): Walk => {
  const times: Array<number> = []
  let changes = 0
  const pages = bucket.pages()
  let current = pages.next()
  while (current.done !== true) {
    const following = pages.next()
    const start = process.hrtime.bigint()
    changes += keeper.page(current.value, following.done === true)
    times.push(Number(process.hrtime.bigint() - start))
    current = following
  }
  return { pages: times, changes }
}

/** Every page at its fastest: one that was slow only once was held up by something else. */
const best = (...walks: ReadonlyArray<Walk>): Walk => ({
  pages: walks[0]!.pages.map((_, page) => Math.min(...walks.map((one) => one.pages[page]!))),
  changes: Math.max(...walks.map((one) => one.changes))
})

const kept = (): number => {
  heapNow()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
}

interface Measured {
  readonly first: Walk
  readonly bytes: number
  readonly still: Walk
  readonly across: Walk
  readonly changed: Walk
}

const measure = async (bucket: Bucket, make: () => Keeper): Promise<Measured> => {
  await heap()
  const before = kept()
  const keeper = make()
  const cold = walk(bucket, keeper)
  const bytes = (kept() - before) / bucket.count
  const still = best(walk(bucket, keeper), walk(bucket, keeper), walk(bucket, keeper))
  const first = best(cold, walk(bucket, make()))
  bucket.shift = 300
  const across = best(walk(bucket, keeper), walk(bucket, keeper), walk(bucket, keeper))
  bucket.shift = 0
  const changed = best(
    ...[1, 2, 3].map(() => {
      bucket.version++
      return walk(bucket, keeper)
    })
  )
  if (still.changes !== 0 || changed.changes !== Math.floor((bucket.count + 62) / 100)) {
    throw new Error(`found ${still.changes} and ${changed.changes} changes of ${bucket.count} keys`)
  }
  return { first, bytes, still, across, changed }
}

const modes: Readonly<Record<string, () => Keeper>> = {
  Map: plainMap,
  compact: () => listing({ snapshot: "compact" }),
  "items, text of their own": () => listing({ text }),
  "items as JSON": () => listing({})
}

const row = (
  name: string,
  count: number,
  { across, bytes, changed, first, still }: Measured,
  map: Measured
): string => {
  const perKey = ({ pages }: Walk): number => pages.reduce((sum, time) => sum + time, 0) / count
  const time = (walked: Walk, of: Walk): string => {
    const longest = Math.max(...walked.pages) / 1e6
    const ratio = perKey(of) / perKey(walked)
    return `${perKey(walked).toFixed(0).padStart(6)} ns ${ratio.toFixed(1).padStart(5)}x ${longest.toFixed(1).padStart(6)} ms`
  }
  const times = [time(still, map.still), time(across, map.across), time(changed, map.changed), time(first, map.first)]
  return `  ${name.padEnd(26)} ${times.join("  ")}  ${bytes.toFixed(1).padStart(6)} B ${(map.bytes / bytes).toFixed(1).padStart(5)}x`
}

/** The longest time between two turns of the event loop while an effect runs, in milliseconds. */
const stall = async (
  effect: Effect.Effect<unknown, unknown>
): Promise<{ readonly longest: number; readonly all: number }> => {
  let longest = 0
  const start = performance.now()
  let last = start
  const turn = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    immediate = setImmediate(turn)
  }
  let immediate = setImmediate(turn)
  await Effect.runPromise(effect)
  longest = Math.max(longest, performance.now() - last)
  clearImmediate(immediate)
  return { longest, all: performance.now() - start }
}

/** What happens once in a while: a restart, and a walk that misses 40 % of the keys. */
const rare = async (bucket: Bucket, mode: Mode): Promise<void> => {
  const source = listing(mode)
  walk(bucket, source)
  const { definition } = source
  const timed = <A>(what: () => A): readonly [A, string] => {
    const start = performance.now()
    const result = what()
    return [result, `${(performance.now() - start).toFixed(1)} ms`]
  }
  const durable = definition.durable(source.state)
  const [parts, split] = timed(() => definition.state.split(durable))
  const size = parts.blocks.reduce((sum, block) => sum + block.length, 0)
  let check = 0
  const [, checks] = timed(() => {
    for (const block of parts.blocks) {
      const start = performance.now()
      definition.state.check?.(block)
      check = Math.max(check, performance.now() - start)
    }
  })
  const [, join] = timed(() => definition.state.join(parts.head, parts.blocks))
  console.log(
    `  saved: ${parts.blocks.length} blocks, ${(size / 1e6).toFixed(1)} MB; split ${split}; restart: join ${join}, each block read ${checks} in slices, ${check.toFixed(1)} ms a block at most`
  )
  bucket.end = Math.floor(bucket.count * 0.6)
  const pages = [...bucket.pages()]
  for (const page of pages.slice(0, -1)) source.page(page, false)
  const last = pages[pages.length - 1]!
  const { all, longest } = await stall(source.poll(last, true))
  const plan = Option.getOrThrow(definition.plan(source.state))
  const held = definition.state.split(definition.durable(source.state))
  const head = JSON.stringify(held.head).length
  const added = held.blocks.slice(parts.blocks.length).reduce((sum, block) => sum + block.length, 0)
  console.log(
    `  a walk that misses ${plan.count} keys: its end takes ${all.toFixed(0)} ms in steps of ${longest.toFixed(1)} ms at most; the plan is saved once as ${(added / 1e6).toFixed(1)} MB of blocks, the head has ${head} bytes`
  )
}

const counts = process.env["KEYS"]?.split(",").map(Number) ?? [10_000, 100_000, 1_000_000]

export const snapshot = async (): Promise<void> => {
  for (const make of Object.values(modes)) await measure(new Bucket(20_000, counter), make)
  for (const [name, names] of [
    ["counter names", counter],
    ["UUID names", uuid]
  ] as const) {
    for (const count of counts) {
      const bucket = new Bucket(count, names)
      console.log(`\nA listing of ${count} objects, ${name}: time a key (and that of the Map through it), longest step`)
      console.log(
        `  ${"".padEnd(26)} nothing changed            ..., pages across blocks   1 % changed                first walk                 kept of a key`
      )
      let map: Measured | undefined
      for (const [mode, make] of Object.entries(modes)) {
        bucket.version = 0
        if (count > 100_000 && mode === "items as JSON") continue
        const measured = await measure(bucket, make)
        map ??= measured
        console.log(row(mode, count, measured, map))
      }
      await rare(new Bucket(count, names), { snapshot: "compact" })
    }
  }
}
