/**
 * The outbox of a Tap server, as values and time alone: which event may be sent next, what an acknowledgement frees, and what a
 * restart leaves.
 *
 * Of one DID a live event is sent alone: after all before it were acknowledged, and before any behind it. What was sent and not
 * acknowledged is sent again at each tick of the retry timeout, once it is older than that. An acknowledged event leaves the
 * database with the next batch of deletions, so a restart before that brings it again.
 */

/** What is delivered. */
export interface Row {
  readonly id: number
  readonly did: string
  readonly live: boolean
  readonly frame: (id: number) => string
}

/** First in, first out, at a constant cost. */
class Fifo<A> {
  private items: Array<A> = []
  private head = 0

  get size(): number {
    return this.items.length - this.head
  }

  push(item: A): void {
    this.items.push(item)
  }

  peek(): A | undefined {
    return this.items[this.head]
  }

  take(): A | undefined {
    const item = this.items[this.head++]
    if (this.head >= 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
    if (this.head > this.items.length) this.head = this.items.length
    return item
  }
}

/** The events of one DID. */
interface Worker {
  readonly did: string
  readonly pending: Fifo<number>
  readonly sentAt: Map<number, number>
  blockedOnLive: boolean
}

export interface Limits {
  readonly retryTimeoutMillis: number
  /** So many acknowledged events leave the database at once. */
  readonly deleteBatch: number
  /** So many events wait for a connection that takes them. */
  readonly outgoing: number
}

export class Outbox {
  private nextId = 0
  private rows = new Map<number, Row>()
  private workers = new Map<string, Worker>()
  private arrivals = new Fifo<number>()
  private outgoing = new Fifo<Row>()
  private held = new Set<Worker>()
  private deletions = new Set<number>()

  constructor(
    private readonly limits: Limits,
    private readonly now: () => number
  ) {}

  /** How many events the database holds. */
  get size(): number {
    return this.rows.size
  }

  /** How many of them are not acknowledged. */
  get unacked(): number {
    return this.rows.size - this.deletions.size
  }

  add(event: Omit<Row, "id">): number {
    const id = ++this.nextId
    this.rows.set(id, { ...event, id })
    this.arrivals.push(id)
    this.deliver()
    return id
  }

  /** The next event for a connection that can take one. */
  take(): Row | undefined {
    const row = this.outgoing.take()
    if (row === undefined) return undefined
    for (const worker of this.held) {
      if (this.isFull()) break
      this.held.delete(worker)
      this.run(worker)
    }
    this.deliver()
    return row
  }

  /** Takes an acknowledgement, as the server does: whatever connection it came over, and whether or not it was sent. */
  ack(id: number): void {
    const row = this.rows.get(id)
    if (row === undefined) return
    this.deletions.add(id)
    const worker = this.workers.get(row.did)
    if (worker !== undefined) {
      worker.sentAt.delete(id)
      this.run(worker)
    }
    if (this.deletions.size >= this.limits.deleteBatch) this.deleteAcked()
  }

  deleteAcked(): void {
    for (const id of this.deletions) this.rows.delete(id)
    this.deletions.clear()
  }

  /** Sends again what was sent too long ago. */
  retry(): void {
    const before = this.now() - this.limits.retryTimeoutMillis
    for (const { sentAt } of this.workers.values()) {
      for (const [id, at] of sentAt) {
        if (at >= before || this.isFull()) continue
        const row = this.rows.get(id)
        if (row !== undefined) this.outgoing.push(row)
      }
    }
  }

  /**
   * Forgets all that a process forgets. The numbers go on behind the highest that the database holds, from 1 where it holds none;
   * `fromOne`: all that is not acknowledged gets a new number, as after the loss of the database.
   */
  restart(ids: "kept" | "fromOne"): void {
    const rows = [...this.rows.values()].filter(({ id }) => ids === "kept" || !this.deletions.has(id))
    this.rows = new Map()
    this.workers = new Map()
    this.arrivals = new Fifo()
    this.outgoing = new Fifo()
    this.held = new Set()
    this.deletions = new Set()
    this.nextId = 0
    for (const row of rows) {
      const id = ids === "kept" ? row.id : ++this.nextId
      this.rows.set(id, { ...row, id })
      this.arrivals.push(id)
    }
    if (ids === "kept") this.nextId = rows.length === 0 ? 0 : rows[rows.length - 1]!.id + 1
    this.deliver()
  }

  private isFull(): boolean {
    return this.outgoing.size >= this.limits.outgoing
  }

  private deliver(): void {
    while (this.arrivals.size > 0 && !this.isFull()) {
      const row = this.rows.get(this.arrivals.take()!)
      if (row === undefined) continue
      const worker = this.workerOf(row.did)
      worker.pending.push(row.id)
      this.run(worker)
    }
  }

  private workerOf(did: string): Worker {
    const known = this.workers.get(did)
    if (known !== undefined) return known
    const worker: Worker = { did, pending: new Fifo(), sentAt: new Map(), blockedOnLive: false }
    this.workers.set(did, worker)
    return worker
  }

  /** Sends as much of a DID as may be sent now. */
  private run(worker: Worker): void {
    const { pending, sentAt } = worker
    for (;;) {
      if (sentAt.size === 0) worker.blockedOnLive = false
      const id = pending.peek()
      if (worker.blockedOnLive || id === undefined) break
      const row = this.rows.get(id)
      if (row === undefined) {
        pending.take()
        continue
      }
      if (this.isFull()) {
        this.held.add(worker)
        return
      }
      if (row.live) {
        worker.blockedOnLive = true
        if (sentAt.size > 0) break
      }
      pending.take()
      sentAt.set(id, this.now())
      this.outgoing.push(row)
    }
    if (pending.size === 0 && sentAt.size === 0) this.workers.delete(worker.did)
  }
}
