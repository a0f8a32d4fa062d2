#!/usr/bin/env node
/**
 * The executable `periscope`.
 */
import * as signals from "./signals.js"

signals.listen()
void import("./main.js").then(({ main }) => main(process.argv.slice(2)))
