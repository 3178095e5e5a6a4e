"""The simulator's repertoire: how each named action moves a body.

An action is a pure function of a ``Take``, which holds everything that was drawn by chance, so that the same take
played as two actions differs exactly where the actions differ: in the head (nod, shake head), in one leg (kick forward,
stamp foot), in one hand (point forward, show stop), in the arms (clap, rub hands).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from feeders.synthetic.body import Array, Person, Pose

FRAMES_A_SECOND = 30
_RIGHT = 1


@dataclass(frozen=True)
class Take:
    """One performance before it is known what is performed: who, how long, when, how strongly.

    Args:
        person: the performer.
        side: 0 where the left hand and foot lead, 1 where the right ones do; mostly the person's main side.
        amplitude: how large, around 1; the person's own times the day's.
        cycles: repetitions of what is repeated.
        start: share of the clip before the action sets in.
        stop: share of the clip after which the body is at rest again.
        first_beat: where in its cycle a repeated movement begins, radians.

    Shapes:
        rest: the standing, slightly moving pose that the action departs from
        time: (T,) share of the clip, 0 to 1
    """

    person: Person
    side: int
    amplitude: float
    cycles: float
    start: float
    stop: float
    first_beat: float
    rest: Pose
    time: Array

    @property
    def gate(self) -> Array:
        """(T,) from 0 at rest to 1 in action and back."""
        edge = 0.2 * (self.stop - self.start)
        return _ease((self.time - self.start) / edge) * _ease((self.stop - self.time) / edge)

    @property
    def progress(self) -> Array:
        """(T,) from 0 to 1 while the action lasts."""
        return _ease((self.time - self.start) / (self.stop - self.start))

    @property
    def beat(self) -> Array:
        """(T,) phase of what is repeated, radians."""
        share = np.clip((self.time - self.start) / (self.stop - self.start), 0.0, 1.0)
        return 2.0 * np.pi * self.cycles * share + self.first_beat


def draw_take(person: Person, frames: int, rng: np.random.Generator) -> Take:
    """What chance decides about one performance of ``frames`` frames."""
    time = np.linspace(0.0, 1.0, frames)
    return Take(
        person=person,
        side=person.main_side if rng.random() < 0.75 else 1 - person.main_side,
        amplitude=float(person.amplitude * rng.uniform(0.85, 1.15)),
        cycles=rng.uniform(1.6, 3.6),
        start=rng.uniform(0.0, 0.2),
        stop=rng.uniform(0.8, 1.0),
        first_beat=rng.uniform(0.0, 2.0 * np.pi),
        rest=_draw_rest(person, frames, rng),
        time=time,
    )


def wander(frames: int, size: int, rng: np.random.Generator) -> Array:
    """(frames, size) slow random curves of unit variance: what keeps a body or a sensor from standing still."""
    seconds = np.arange(frames)[:, None, None] / FRAMES_A_SECOND
    pace = rng.uniform(0.1, 0.9, size=(1, size, 4))
    waves = np.sin(2.0 * np.pi * (pace * seconds + rng.uniform(size=(1, size, 4))))
    return np.asarray(waves.sum(axis=2) / np.sqrt(2.0))


def _draw_rest(person: Person, frames: int, rng: np.random.Generator) -> Pose:
    idle = wander(frames, 16, rng)
    start = rng.normal(size=8)
    torso = 0.025 * idle[:, 0:3] + [person.slouch, 0.12 * start[0], 0.03 * start[1]]
    head = 0.04 * idle[:, 3:6] + [person.head_bow, 0.2 * start[2], 0.05 * start[3]]
    hang = np.array([person.arms_out, person.elbow_bend - 0.97, 0.04])
    offset = np.array([0.06, 0.0, 0.08]) * start[4:6, None]
    wrist = 0.025 * idle[:, 6:12].reshape(frames, 2, 3) + hang + offset
    ankle = np.zeros((frames, 2, 3))
    ankle[:, :, 2] = 0.06 * start[6:8]
    return Pose(
        place=np.zeros((frames, 2)),
        heading=np.zeros(frames),
        pelvis=0.012 * idle[:, 12:15] * [1.0, 0.3, 1.0] + [0.0, -0.01, 0.0],
        torso=torso,
        head=head,
        wrist=wrist,
        hand=0.15 * idle[:, 15:16] + np.zeros((frames, 2)),
        ankle=ankle,
        toes=np.zeros((frames, 2)),
    )


def _ease(share: Array) -> Array:
    """Smooth step from 0 to 1."""
    clipped = np.clip(share, 0.0, 1.0)
    return clipped * clipped * (3.0 - 2.0 * clipped)


def _arm_to(pose: Pose, side: int, target: Array, gate: Array) -> Pose:
    """Bring one wrist to a target, (3,) or (T, 3), sided, in arm lengths."""
    wrist = pose.wrist.copy()
    wrist[:, side] += gate[:, None] * (target - wrist[:, side])
    return replace(pose, wrist=wrist)


def _wave(take: Take) -> Pose:
    swing = 0.28 * take.amplitude * np.sin(take.beat)
    target = np.stack([0.3 + swing, np.full_like(swing, 0.4 * take.amplitude), np.full_like(swing, 0.35)], axis=1)
    return _arm_to(take.rest, take.side, target, take.gate)


def _palms(take: Take, apart: Array, height: float, slide: Array) -> Pose:
    """Both hands ahead at ``height``, each ``apart`` metres from the middle, sliding along each other."""
    pose, build = take.rest, take.person.build
    for side, direction in enumerate((1.0, -1.0)):
        outward = (apart - build.shoulder) / build.arm
        target = np.stack([outward, height + 0.4 * direction * slide, 0.55 + direction * slide], axis=1)
        pose = _arm_to(pose, side, target, take.gate)
    return pose


def _clap(take: Take) -> Pose:
    apart = 0.02 + 0.15 * take.amplitude * (1.0 + np.cos(take.beat))
    return _palms(take, apart, -0.2, np.zeros_like(apart))


def _rub_hands(take: Take) -> Pose:
    slide = 0.18 * take.amplitude * np.sin(take.beat)
    return _palms(take, np.full_like(slide, 0.02), -0.5, slide)


def _nod(take: Take) -> Pose:
    return _move_head(take, 0.5 * (1.0 - np.cos(take.beat)), np.array([1.1, 0.0, 0.0]))


def _shake_head(take: Take) -> Pose:
    return _move_head(take, np.sin(take.beat), np.array([0.0, 1.1, 0.8]))


def _move_head(take: Take, course: Array, swing: Array) -> Pose:
    return replace(take.rest, head=take.rest.head + (take.amplitude * take.gate * course)[:, None] * swing)


def _kick_forward(take: Take) -> Pose:
    return _move_leg(take, np.array([0.0, 0.35, 0.8]), toes=0.5)


def _stamp_foot(take: Take) -> Pose:
    return _move_leg(take, np.array([0.03, 0.3, 0.08]), toes=0.1)


def _move_leg(take: Take, travel: Array, toes: float) -> Pose:
    lift = take.amplitude * take.gate * (1.0 - np.cos(take.beat)) / 2.0
    ankle, pitch = take.rest.ankle.copy(), take.rest.toes.copy()
    ankle[:, take.side] += lift[:, None] * travel
    pitch[:, take.side] += lift * toes
    return replace(take.rest, ankle=ankle, toes=pitch)


def _point_forward(take: Take) -> Pose:
    return _hold_out(take, bend=0.0)


def _show_stop(take: Take) -> Pose:
    return _hold_out(take, bend=5.0)


def _hold_out(take: Take, bend: float) -> Pose:
    side, gate = take.side, take.gate
    pose = _arm_to(take.rest, side, np.array([0.02, 0.05 * take.amplitude, 0.95]), gate)
    hand = pose.hand.copy()
    hand[:, side] += gate * bend
    return replace(pose, hand=hand)


def _sit(take: Take, seated: Array) -> Pose:
    """Between standing (0) and sitting (1): pelvis back and down, a bow on the way, wrists to the knees."""
    on_the_way = 4.0 * seated * (1.0 - seated)
    pose = replace(
        take.rest,
        pelvis=take.rest.pelvis + seated[:, None] * [0.0, -0.5, -0.42],
        torso=take.rest.torso + (0.6 * take.amplitude * on_the_way)[:, None] * [1.0, 0.0, 0.0],
    )
    for side in (0, 1):
        pose = _arm_to(pose, side, np.array([-0.05, -0.72, 0.5]), seated)
    return pose


def _sit_down(take: Take) -> Pose:
    return _sit(take, take.progress)


def _stand_up(take: Take) -> Pose:
    return _sit(take, 1.0 - take.progress)


def _pick_up(take: Take) -> Pose:
    bow = 1.1 * take.gate * np.sqrt(take.amplitude)
    pose = replace(
        take.rest,
        pelvis=take.rest.pelvis + take.gate[:, None] * [0.0, -0.28, -0.15],
        torso=take.rest.torso + bow[:, None] * [1.0, 0.0, 0.0],
    )
    # Straight down in the world, as the bowed chest sees it.
    down = np.stack([np.full_like(bow, 0.02), -np.cos(bow), np.sin(bow)], axis=1)
    pose = _arm_to(pose, take.side, 0.97 * down, take.gate)
    on_the_thigh = np.array([0.0, -0.72, 0.5])
    return _arm_to(pose, 1 - take.side, on_the_thigh, take.gate)


def walk(take: Take) -> Pose:
    """The person's own gait, straight or on a gentle curve, centred on the starting point.

    The stance foot moves back under the pelvis as fast as the pelvis advances, so it stays where it was put.
    """
    person, rest = take.person, take.rest
    seconds = np.arange(len(take.time)) / FRAMES_A_SECOND
    stride = person.stride * np.sqrt(take.amplitude / person.amplitude)
    phase = 2.0 * np.pi * person.cadence * person.tempo * seconds + take.first_beat
    heading = (take.cycles - 2.6) * 0.5 * (take.time - 0.5)
    advance = stride * person.build.leg * person.cadence * person.tempo / FRAMES_A_SECOND
    steps = advance * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    place = np.cumsum(steps, axis=0)
    ankle, wrist, toes = rest.ankle.copy(), rest.wrist.copy(), rest.toes.copy()
    for side in (0, 1):
        share = (phase / (2.0 * np.pi) + 0.5 * side) % 1.0
        stance, swing = share < 0.6, np.clip((share - 0.6) / 0.4, 0.0, 1.0)
        ahead = np.where(stance, 0.3 - share, -0.3 + 0.6 * _ease(swing))
        ankle[:, side, 2] += stride * ahead
        ankle[:, side, 1] += person.foot_lift * np.sin(np.pi * swing) ** 2
        toes[:, side] += 0.4 * np.sin(2.0 * np.pi * swing)
        wrist[:, side, 2] -= 2.0 * person.arm_swing * ahead
    rise = person.bounce * np.cos(2.0 * phase)
    sideways = person.sway * np.sin(phase)
    pelvis = rest.pelvis + np.stack([sideways, rise - 0.03 - 0.02 * stride, np.zeros_like(rise)], axis=1)
    torso = rest.torso + (person.twist * np.cos(phase))[:, None] * [0.0, 1.0, 0.0]
    return Pose(
        place=place - place.mean(axis=0),
        heading=heading,
        pelvis=pelvis,
        torso=torso,
        head=rest.head,
        wrist=wrist,
        hand=rest.hand,
        ankle=ankle,
        toes=toes,
    )


def _shake_hands(take: Take) -> Pose:
    shake = 0.1 * take.amplitude * np.sin(take.beat)
    target = np.stack([np.full_like(shake, -0.2), -0.4 + shake, np.full_like(shake, 0.75)], axis=1)
    return _arm_to(take.rest, _RIGHT, target, take.gate)


def _high_five(take: Take) -> Pose:
    """Up, and forward to the clap in the middle."""
    clap = take.gate**4
    target = np.stack([0.1 - 0.2 * clap, 0.45 + 0.1 * clap, 0.25 + 0.5 * clap], axis=1)
    return _arm_to(take.rest, _RIGHT, target, take.gate)


def _push(take: Take) -> Pose:
    """Both hands to the chest, then a thrust ahead with the weight of the body."""
    thrust = take.gate**4
    pose = replace(
        take.rest,
        torso=take.rest.torso + (0.25 * take.amplitude * thrust)[:, None] * [1.0, 0.0, 0.0],
        pelvis=take.rest.pelvis + thrust[:, None] * [0.0, -0.02, 0.1],
    )
    target = np.stack([np.full_like(thrust, -0.05), -0.15 + 0.1 * thrust, 0.35 + 0.55 * thrust], axis=1)
    for side in (0, 1):
        pose = _arm_to(pose, side, target, take.gate)
    return pose


def _be_pushed(take: Take) -> Pose:
    """A late stagger back: the torso gives way, the arms fly up, one foot steps behind."""
    give = _ease((take.time - take.start) / (take.stop - take.start) * 2.0 - 0.8)
    ankle = take.rest.ankle.copy()
    ankle[:, take.side, 2] -= 0.35 * give
    pose = replace(
        take.rest,
        torso=take.rest.torso - (0.3 * give)[:, None] * [1.0, 0.0, 0.0],
        pelvis=take.rest.pelvis + give[:, None] * [0.0, -0.03, -0.2],
        ankle=ankle,
    )
    for side in (0, 1):
        pose = _arm_to(pose, side, np.array([0.3, -0.5, 0.5]), 0.8 * give)
    return pose


@dataclass(frozen=True)
class Action:
    """What the performer does, and what a partner opposite does where the action takes two.

    Args:
        distance: between the two, in arm lengths of the performer.
    """

    perform: Callable[[Take], Pose]
    respond: Callable[[Take], Pose] | None = None
    distance: float = 0.0


ACTIONS: Mapping[str, Action] = {
    "wave": Action(_wave),
    "clap": Action(_clap),
    "rub hands": Action(_rub_hands),
    "nod": Action(_nod),
    "shake head": Action(_shake_head),
    "kick forward": Action(_kick_forward),
    "stamp foot": Action(_stamp_foot),
    "point forward": Action(_point_forward),
    "show stop": Action(_show_stop),
    "sit down": Action(_sit_down),
    "stand up": Action(_stand_up),
    "pick up": Action(_pick_up),
    "walk": Action(walk),
    "shake hands": Action(_shake_hands, _shake_hands, distance=1.8),
    "high five": Action(_high_five, _high_five, distance=1.75),
    "push": Action(_push, _be_pushed, distance=1.5),
}
