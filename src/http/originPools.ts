/**
 * Connections to any number of origins, a bounded pool for each.
 *
 * undici's `Agent` forgets the pool of an origin when that has lost its last connection, also while requests wait in it: the
 * next request opens a second pool beside it, and the bound is twice what was asked for. Here a pool stays until it is idle.
 */
import * as Undici from "@effect/platform-node/Undici"

export class OriginPools extends Undici.Dispatcher {
  private readonly pools = new Map<string, Undici.Pool>()
  private isDestroyed = false

  constructor(private readonly options: Undici.Pool.Options) {
    super()
  }

  /** How many origins have a pool. */
  get size(): number {
    return this.pools.size
  }

  override dispatch(options: Undici.Dispatcher.DispatchOptions, handler: Undici.Dispatcher.DispatchHandler): boolean {
    const origin = String(options.origin)
    return (this.pools.get(origin) ?? this.open(origin)).dispatch(options, handler)
  }

  override destroy(): Promise<void> {
    this.isDestroyed = true
    const all = Array.from(this.pools.values(), (pool) => pool.destroy())
    this.pools.clear()
    return Promise.all(all).then(() => {})
  }

  private open(origin: string): Undici.Pool {
    const pool = new Undici.Pool(origin, this.options)
    if (this.isDestroyed) {
      // it tells the request so
      void pool.destroy()
      return pool
    }
    const closeIfIdle = (): void => {
      const { connected, pending, running } = pool.stats
      if (connected + pending + running > 0 || this.pools.get(origin) !== pool) return
      this.pools.delete(origin)
      void pool.close()
    }
    this.pools.set(origin, pool)
    return pool.on("disconnect", closeIfIdle).on("connectionError", closeIfIdle)
  }
}
