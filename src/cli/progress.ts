/**
 * Counts what a listing has brought so far, for a listing that takes long.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as ObjectStore from "../objects/ObjectStore.js"
import { showCount } from "./units.js"

type Store = Context.Tag.Service<typeof ObjectStore.ObjectStore>

/** How often a long listing is told of where there is no status line. */
const tellEveryMillis = 10_000

/** A listing that is over sooner is not shown. */
const longMillis = 1000

/** The listing under way, or the last one. */
export class Progress {
  objects = 0
  pages = 0
  /** How many of the objects had not been known before. */
  added = 0
  private isListing = false
  private startedAt = 0
  private isFirst = true
  private toldAt = 0

  /** `tells`: says on the log how far the first listing is. */
  constructor(
    private readonly name: string,
    private readonly tells: boolean
  ) {}

  /** A store whose listings are counted here. */
  readonly counting = (store: Store): Store =>
    ObjectStore.ObjectStore.of({
      ...store,
      listPage: (options) =>
        Effect.gen(this, function* () {
          if (options?.token === undefined) this.begin(yield* Clock.currentTimeMillis)
          const { next, ...page } = yield* store.listPage(options)
          this.objects += page.objects.length
          this.pages++
          this.isListing = next !== undefined
          if (next === undefined) {
            this.isFirst = false
            return page
          }
          if (this.tells && this.isFirst) yield* this.tell
          return { ...page, next }
        })
    })

  /** How many objects a listing has brought that began a while ago and has not ended. */
  readonly longSince = (now: number): number | undefined =>
    this.isListing && this.pages > 0 && now - this.startedAt >= longMillis ? this.objects : undefined

  private begin(now: number): void {
    this.objects = this.pages = this.added = 0
    this.isListing = true
    this.startedAt = now
    if (this.toldAt === 0) this.toldAt = now
  }

  private get tell(): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      const now = yield* Clock.currentTimeMillis
      if (now - this.toldAt < tellEveryMillis) return
      this.toldAt = now
      const { name, objects, pages } = this
      yield* Effect.annotateLogs(
        Effect.logInfo(`${name}: listing, ${showCount(objects)} objects on ${showCount(pages)} pages so far`),
        { "periscope.source": name }
      )
    })
  }
}
