"""
The exerciser: runs random operations on a volume and on the host filesystem until the time or the number is up, and compares.
Keeps: the seed is printed first and replays the run; a difference ends it with exit 1, the seed, the number of the operation, the
  last operations and the first byte that differs.
Leaves: mounting to exerciser.ts, which is asked to mount anew by the line `remount` and answers with a line.
"""
import argparse
import json
import sys
import time
import traceback

from operations import Exerciser
from trees import Difference


def arguments():
    parser = argparse.ArgumentParser(description='Random operations on a volume and on the host filesystem, compared.')
    parser.add_argument('--host', required=True, help='empty folder on the host filesystem')
    parser.add_argument('--volume', required=True, help='empty folder on the volume')
    parser.add_argument('--seed', type=int, required=True)
    parser.add_argument('--seconds', type=float, default=float('inf'), help='stop after that time')
    parser.add_argument('--operations', type=float, default=float('inf'), help='stop after that many')
    parser.add_argument('--compare-every', type=int, default=200, help='operations between two comparisons of everything')
    parser.add_argument('--remount-every', type=int, default=0, help='operations between two remounts, 0 for none')
    parser.add_argument('--without', default='', help='operations to leave out, with commas: to narrow a difference down')
    return parser.parse_args()


def remount(exerciser):
    """Has the volume mounted anew by whoever started this; nothing is open meanwhile."""
    exerciser.note('remount')
    exerciser.close_all()
    print('remount', flush=True)
    if sys.stdin.readline() == '':
        raise SystemExit('nobody remounts')


def run(exerciser, options):
    end = time.monotonic() + options.seconds
    while time.monotonic() < end and exerciser.number < options.operations:
        exerciser.step()
        is_remounted = options.remount_every > 0 and exerciser.number % options.remount_every == 0
        if is_remounted:
            exerciser.compare_all()
            remount(exerciser)
        if is_remounted or exerciser.number % options.compare_every == 0:
            exerciser.note('compare everything')
            exerciser.compare_all()
    exerciser.compare_all()
    if options.remount_every > 0:
        remount(exerciser)
    return exerciser.compare_all()


def main():
    options = arguments()
    print(f'seed {options.seed}', flush=True)
    exerciser = Exerciser((options.host, options.volume), options.seed, options.without.split(','))
    try:
        run(exerciser, options)
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, Difference):
            traceback.print_exc()
        print('the last operations:', *exerciser.log, sep='\n  ', file=sys.stderr)
        print(f'seed {options.seed}, operation {exerciser.number}: {error}', file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        exerciser.close_all()
    summary = {'operations': exerciser.number, 'holeBytes': exerciser.hole_bytes, 'counts': dict(exerciser.counts)}
    print(json.dumps(summary), flush=True)


main()
