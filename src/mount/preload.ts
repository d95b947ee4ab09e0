/**
 * Loads what a FUSE process consists of, its serving thread included, and ends: Node keeps what it has compiled for that (NODE_COMPILE_CACHE),
 * which the first mount would have to wait for. Run by bin/litevol where nothing is kept yet.
 * Leaves: main.ts and serving-thread.ts, which begin at once with what they are for, to the first mount.
 */
import './control-socket.ts'
import './failpoint.ts'
import './lost-requests.ts'
import './oom-score.ts'
import './poison.ts'
import './serving.ts'
