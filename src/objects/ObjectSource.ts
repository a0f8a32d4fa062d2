/**
 * Watches the objects of a store: lists them, and says what is new, what has changed and what is gone.
 *
 * One page of the listing is one poll, so the first change is out before the second page is asked for. An object is removed only
 * when a complete listing misses it; a listing that misses suspiciously many removes nothing until others confirm it.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { ListingError, ListPage, RemovalGuardOptions } from "../core/Source.js"
import * as Source from "../core/Source.js"
import { metaText, versionOf } from "./metaText.js"
import { ObjectMeta, ObjectStore, ObjectStoreError } from "./ObjectStore.js"

/**
 * What to watch, and how carefully. All of it may be left out.
 *
 * - `prefix`: only objects below it, by path segment: `configs` has `configs/a`, but not `configs2/a` [all of the store].
 * - `rawPrefix`: the prefix is plain text: `configs` has both [false].
 * - `name`: names the source in logs, metrics and checkpoints [`objects`, with a prefix `objects:` and the prefix].
 * - `snapshot`: what is remembered of each object: `"metadata"`, all that the store said, for `previous`; `"compact"`, its key and
 *   64 bits of its version, a third of the memory or less, and `previous` is unknown [`"metadata"`].
 * - `minAge`: an object is not looked at until so much time has passed since it was last written, by the clock of the store where
 *   it tells it: of a file that is written bit by bit, only the end is reported [0].
 * - `skipFolderObjects`: leaves out empty objects whose key ends in a slash, which some tools write for folders [false].
 * - `removalGuard`: when missing objects are believed [3 listings in a row if more than 30 % of 10 or more are missing, or all].
 * - `pageSize`: how many objects to ask for at once, from 1 to what the store allows [1000].
 * - `maxPages`: bound of one listing [100,000].
 * - `timeout`: bound of one page [2 minutes].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly prefix?: string | undefined
  readonly rawPrefix?: boolean | undefined
  readonly name?: string | undefined
  readonly snapshot?: "metadata" | "compact" | undefined
  readonly minAge?: Duration.DurationInput | undefined
  readonly skipFolderObjects?: boolean | undefined
  readonly removalGuard?: RemovalGuardOptions | false | undefined
  readonly pageSize?: number | undefined
  readonly maxPages?: number | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Makes a source of the objects in a store.
 *
 * **Details** An object is known by its key, and has changed when its version is another one: its ETag, else its version or
 * generation, else its size and time. A store may list in any order and while objects come and go: an object that is there all
 * the while is never reported as removed. State is bound to the identity of the store and to the prefix.
 *
 * **Gotchas** Objects are compared, not read: the same content written again has the same ETag on S3, and is no change. With
 * `minAge` an object of a store that tells no time is reported at once.
 *
 * **Errors** {@link ObjectStoreError}, and `ListingError` where the pages lead in a circle or are too many. A failed page is asked
 * for again; a page whose token has gone stale lets the listing start over. None of them removes anything.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Watcher } from "effect-periscope"
 * import { Memory, ObjectSource } from "effect-periscope/objects"
 *
 * const configs = ObjectSource.make({ prefix: "configs" })
 *
 * const changes = await Effect.runPromise(
 *   Effect.provide(Watcher.once(configs), Memory.layer({ objects: { "configs/a": "1", "configs2/a": "2" } }))
 * )
 * changes.map(({ _tag, key }) => `${_tag} ${key}`) // => ["Added configs/a"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Source.Source<ObjectMeta, ObjectStoreError | ListingError, ObjectStore> => {
  const prefix = checkPrefix(options)
  const maxKeys = checkPageSize(options.pageSize)
  const minAgeMillis = checkMinAge(options.minAge)
  const name = options.name ?? (prefix === "" ? "objects" : `objects:${prefix}`)
  const isWanted = options.skipFolderObjects === true ? (meta: ObjectMeta) => !isFolder(meta) : undefined
  const list = (
    token: string | undefined
  ): Effect.Effect<ListPage<ObjectMeta, string>, ObjectStoreError, ObjectStore> =>
    Effect.gen(function* () {
      const store = yield* ObjectStore
      const { next, nowMillis, objects } = yield* store.listPage({ prefix, token, maxKeys })
      const known = objects.some(hasEmptyEtag) ? objects.map(withoutEmptyEtag) : objects
      const wanted = isWanted === undefined ? known : known.filter(isWanted)
      if (minAgeMillis === 0) return { items: wanted, next }
      const now = nowMillis ?? (yield* Clock.currentTimeMillis)
      const isYoung = ({ lastModifiedMillis }: ObjectMeta): boolean =>
        // a time far in the future says nothing of when it was written
        lastModifiedMillis !== undefined && Math.abs(now - lastModifiedMillis) < minAgeMillis
      return {
        items: wanted.filter((meta) => !isYoung(meta)),
        present: wanted.filter(isYoung).map(({ key }) => key),
        next
      }
    })
  const { definition } = Source.fromListing<ObjectMeta, ObjectMeta, string, ObjectStoreError, ObjectStore>({
    name,
    timeout: options.timeout,
    onTimeout: (timeout) =>
      new ObjectStoreError({
        reason: "Timeout",
        store: name,
        operation: "listPage",
        message: `${name}: no page was listed within ${Duration.format(timeout)}.`
      }),
    item: ObjectMeta,
    list,
    key: ({ key }) => key,
    version: versionOf,
    text: metaText,
    snapshot: options.snapshot === "compact" ? "compact" : "items",
    removalGuard: options.removalGuard,
    maxPages: options.maxPages,
    isStaleToken: ({ reason }) => reason === "StaleToken"
  })
  return Source.fromDefinition({
    ...definition,
    identity: (services) => `objects:${Context.get(services, ObjectStore).identity}${prefix === "" ? "" : ` ${prefix}`}`
  })
}

/** Some servers send quotes with nothing between them where they have no ETag: as a version that would hide every change. */
const hasEmptyEtag = ({ etag }: ObjectMeta): boolean => etag !== undefined && /^(?:W\/)?(?:"")?$/.test(etag)

const withoutEmptyEtag = (meta: ObjectMeta): ObjectMeta => {
  if (!hasEmptyEtag(meta)) return meta
  const { etag: _, ...rest } = meta
  return rest
}

const isFolder = ({ key, size }: ObjectMeta): boolean => size === 0 && key.endsWith("/")

const refuse = (sentence: string): never => {
  throw new Error(`ObjectSource: ${sentence}`)
}

const checkPrefix = ({ prefix = "", rawPrefix = false }: Options): string => {
  if (!rawPrefix && prefix.startsWith("/")) {
    return refuse(
      `\`prefix\` is ${JSON.stringify(prefix)}; keys do not begin with a slash, write it without, or set \`rawPrefix\` if yours do.`
    )
  }
  return rawPrefix || prefix === "" || prefix.endsWith("/") ? prefix : `${prefix}/`
}

const checkPageSize = (size: number | undefined): number | undefined =>
  size === undefined || (Number.isSafeInteger(size) && size >= 1)
    ? size
    : refuse(`\`pageSize\` is ${size}; it must be a whole number of 1 or more.`)

const checkMinAge = (input: Duration.DurationInput | undefined): number => {
  if (input === undefined) return 0
  const duration = Duration.decodeUnknown(input)
  const isValid =
    Option.isSome(duration) && Duration.isFinite(duration.value) && !(typeof input === "number" && !(input >= 0))
  return isValid
    ? Duration.toMillis(duration.value)
    : refuse(`\`minAge\` is ${String(input)}; it must be a finite duration of zero or more, such as "1 minute".`)
}
