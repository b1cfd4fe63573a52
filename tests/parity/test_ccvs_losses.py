"The image turn as it is trained gives the recorded terms and gradients; the runner repeats it for any layout of groups (CCVS spec 5.4-6.3)."
from ccvs.compat.ccvs_kinds.codec import PARTS, recorded_codec, recorded_critic
from ccvs.compat.ccvs_kinds.losses import recorded_perceptual
from ccvs.compat.ccvs_kinds.losses import gradients
from ccvs.nn.elastic import ElasticView
from ccvs.nn.losses import generator_loss
from ccvs.nn.motion_losses import motion_recovery_loss, occlusion_loss
from ccvs.train.passes import image_pass

from .cases import load_case


def test_image_turn_of_the_generator():
    case = load_case('ccvs/loss_image').whole
    call = next(call for call in case.calls if call.kind == 'loss.generator_image')
    codec, critic = recorded_codec(case, call.options), recorded_critic(case, call.options, 'net_di')
    given, other, view = call.inputs['img'].unflatten(0, (-1, 3)).unbind(1)     # groups are given frame, other frame, view
    view = ElasticView(given, view, call.inputs['flow_img'], call.inputs['mask_img'].bool())
    made = image_pass(codec, other, view)
    perceptual = recorded_perceptual(case.part('vgg_loss_img.vgg.'))
    terms = dict(quant_img=made.quantization, mask_rec_img=occlusion_loss(made.occlusion, view.masked),
                 elastic_flow_rec_img=motion_recovery_loss(made.motions, view.motion, view.masked),
                 rec_img=(made.real - made.fake).abs().mean(), vgg_img=10 * perceptual(made.fake, made.real),
                 gen_img=generator_loss(critic(made.fake)))
    loss = sum(terms.values())
    parts = {theirs: getattr(codec, part) for part, theirs in PARTS.items()}
    found = {f'terms/{name}': value for name, value in terms.items()} | gradients(call, loss, parts) | dict(
        loss=loss, fake_img=made.fake, fake_z=codec.quantize(made.feats).z_q.unflatten(0, (-1, 3))[:, 1:].flatten(0, 1))
    elsewhere = {name for name in call.outputs if name.startswith(('flow_target.', 'no_occlusion_mask.'))}   # not among what is trained on
    assert set(found) >= set(call.outputs) - elsewhere
    for name in set(call.outputs) - elsewhere: call.check(name, found[name].view(call.outputs[name].value.shape))
