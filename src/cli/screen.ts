/**
 * The two outputs of the process: changes on stdout, all else on stderr, with a status line below both on a terminal.
 */
import * as Effect from "effect/Effect"

/** stdout cannot be written to: its reader has gone (`isClosed`), or the disk is full. */
export class OutputFailed {
  readonly _tag = "OutputFailed"
  readonly isClosed: boolean
  readonly message: string
  constructor(error: NodeJS.ErrnoException) {
    this.isClosed = error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED" || error.code === "ECONNRESET"
    this.message = `stdout cannot be written to (${error.code ?? error.message}); make room or send it elsewhere`
  }
}

type Output = Pick<NodeJS.WriteStream, "isTTY" | "columns" | "write" | "on">

const eraseLine = "\r\u001b[2K"

export class Screen {
  private status = ""
  private readonly isShared: boolean

  constructor(
    private readonly stdout: Output,
    private readonly stderr: Output,
    environment: Readonly<Record<string, string | undefined>>
  ) {
    // a failed write is told to its callback; without a listener it would end the process as well
    stdout.on("error", () => {})
    stderr.on("error", () => {})
    const isDumb = environment["TERM"] === "dumb"
    this.isShared = stdout.isTTY === true
    this.hasStatus = stderr.isTTY === true && !isDumb
    const colours = (output: Output): boolean => {
      if ((environment["NO_COLOR"] ?? "") !== "") return false
      const forced = environment["FORCE_COLOR"]
      return forced !== undefined ? forced !== "0" && forced !== "false" : output.isTTY === true && !isDumb
    }
    this.hasColour = { stdout: colours(stdout), stderr: colours(stderr) }
  }

  readonly hasStatus: boolean
  readonly hasColour: { readonly stdout: boolean; readonly stderr: boolean }

  get isTerminal(): boolean {
    return this.isShared
  }

  /** The width of a change line. */
  get columns(): number {
    return this.isShared ? (this.stdout.columns ?? 80) : Infinity
  }

  /** The room of the status line: the last columns stay free for the ^C that terminals echo. */
  get statusColumns(): number {
    return Math.max(0, (this.stderr.columns ?? 80) - 3)
  }

  /** Writes to stdout and waits until the system has taken it. */
  readonly write = (text: string): Effect.Effect<void, OutputFailed> =>
    Effect.async((resume) => {
      const isBelow = this.isShared
      if (isBelow) this.erase()
      this.stdout.write(text, (error) => resume(error ? Effect.fail(new OutputFailed(error)) : Effect.void))
      if (isBelow) this.draw()
    })

  /** Writes whole lines to stderr, above the status line. */
  readonly note = (text: string): void => {
    this.erase()
    this.stderr.write(text)
    this.draw()
  }

  /** Replaces the status line; "" removes it. */
  readonly show = (status: string): void => {
    if (!this.hasStatus || status === this.status) return
    this.erase()
    this.status = status
    this.draw()
  }

  /** Waits, at most a moment, until stderr was written. */
  readonly flushed: Effect.Effect<void> = Effect.asVoid(
    Effect.timeoutOption(
      Effect.async<void>((resume) => void this.stderr.write("", () => resume(Effect.void))),
      "500 millis"
    )
  )

  private erase(): void {
    if (this.status !== "") this.stderr.write(eraseLine)
  }

  private draw(): void {
    if (this.status !== "") this.stderr.write(this.status)
  }
}
