(* A saturated softmax passes hardly any gradient on (F4). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import identities.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* u i = exp(z_i - z_m), with m the largest logit: any numbers above zero, u m = 1; pi is the softmax *)
Section Softmax.
Variables (R : realFieldType) (I : finType) (u : I -> R) (m : I).
Hypothesis positive : forall i, 0 < u i.
Hypothesis top : u m = 1.
Definition total := \sum_i u i.
Definition pi i := u i / total.

Lemma total_gt0 : 0 < total.
Proof. by rewrite /total (bigD1 m) //= top ltr_spaddl ?ltr01 // sumr_ge0 // => i _; exact: ltW. Qed.
Lemma total_ge1 : 1 <= total.
Proof. by rewrite /total (bigD1 m) //= top ler_addl sumr_ge0 // => i _; exact: ltW. Qed.
Lemma pi_gt0 i : 0 < pi i. Proof. by rewrite divr_gt0 ?total_gt0. Qed.
Lemma pi_sum : \sum_i pi i = 1.
Proof. by rewrite -mulr_suml divff // gt_eqF ?total_gt0. Qed.
Lemma pi_rest a : \sum_(i | i != a) pi i = 1 - pi a.
Proof. by rewrite -pi_sum [in RHS](bigD1 a) //= addrAC subrr add0r. Qed.
Lemma pi_le1 a : pi a <= 1.
Proof. by rewrite -subr_ge0 -pi_rest sumr_ge0 // => i _; exact: ltW (pi_gt0 i). Qed.

Theorem F4_below i : pi i <= u i.
Proof. by rewrite /pi ler_pdivr_mulr ?total_gt0 // ler_pmulr ?positive // total_ge1. Qed.

(* the mass beside the largest, with q = exp(-gap) *)
Theorem F4_mass q : (forall i, i != m -> u i <= q) -> 1 - pi m <= (#|I|%:R - 1) * q.
Proof.
move=> le_q; rewrite -pi_rest; have E : (#|I|%:R - 1) * q = \sum_(i | i != m) q.
  have n0 : (0 < #|I|)%N by apply/card_gt0P; exists m.
  by rewrite sumr_const cardC1 -[RHS]mulr_natl -{1}(prednK n0) mulrS addrAC subrr add0r.
rewrite E; apply: ler_sum => i /le_q; apply: le_trans; exact: F4_below.
Qed.

(* the gradient of log pi_a is e_a - pi *)
Theorem F4_score a : \sum_i `|(i == a)%:R - pi i| = 2%:R * (1 - pi a).
Proof.
rewrite (bigD1 a) //= eqxx ger0_norm ?subr_ge0 ?pi_le1 // (eq_bigr pi) => [|i /negPf->]; last first.
  by rewrite sub0r normrN ger0_norm // ltW ?pi_gt0.
by rewrite pi_rest mulr_natl mulr2n.
Qed.

(* an action that is not the likeliest one has a gradient that is not small *)
Theorem F4_other a : a != m -> u a <= 1 -> 1 <= \sum_i `|(i == a)%:R - pi i|.
Proof.
move=> am a1; rewrite F4_score mulrBr mulr1 ler_subr_addl -ler_subr_addr.
have le : pi a + pi m <= 1.
  rewrite -pi_sum (bigD1 m) //= (bigD1 a) //= addrA [pi m + pi a]addrC ler_addl.
  by rewrite sumr_ge0 // => i _; exact: ltW (pi_gt0 i).
have am' : pi a <= pi m by rewrite /pi top ler_wpmul2r // invr_ge0 ltW ?total_gt0.
have -> : 2%:R - 1 = 1 :> R by rewrite mulr2n addrK.
by apply: le_trans le; rewrite mulr_natl mulr2n ler_add2l.
Qed.

(* PPO's surrogate: the ratio to an old probability q scales the score *)
Theorem F4_ratio (q A : R) a : 0 < q ->
  \sum_i `|pi a / q * A * ((i == a)%:R - pi i)| = 2%:R * `|A| * (pi a * (1 - pi a)) / q.
Proof.
move=> q0; under eq_bigr do rewrite normrM; rewrite -mulr_sumr F4_score normrM ger0_norm.
  by rewrite mulr2n; exact: ratio_identity.
by rewrite divr_ge0 // ltW ?pi_gt0.
Qed.

(* any loss of pi: with c = d l / d pi, the gradient of logit i is pi_i (c_i - mean) *)
Variable c : I -> R.
Definition mean := \sum_i pi i * c i.
Section Bounded.
Variables lo hi : R.
Hypothesis bounds : forall i, lo <= c i <= hi.
Lemma far i j : `|c i - c j| <= hi - lo.
Proof.
have /andP[l h] := bounds i; have /andP[l' h'] := bounds j.
by rewrite ler_norml opprB !ler_sub.
Qed.
Lemma off i : c i - mean = \sum_k pi k * (c i - c k).
Proof. by under [RHS]eq_bigr do rewrite mulrBr; rewrite sumrB -mulr_suml pi_sum mul1r. Qed.
Lemma off_le i : `|c i - mean| <= hi - lo.
Proof.
rewrite off -[hi - lo]mul1r -pi_sum mulr_suml; apply: le_trans (ler_norm_sum _ _ _) (ler_sum _ _) => k _.
by rewrite normrM (gtr0_norm (pi_gt0 k)) ler_wpmul2l ?far // ltW ?pi_gt0.
Qed.
Lemma off_top : `|c m - mean| <= (1 - pi m) * (hi - lo).
Proof.
rewrite off (bigD1 m) //= subrr mulr0 add0r -pi_rest mulr_suml; apply: le_trans (ler_norm_sum _ _ _) (ler_sum _ _) => k _.
by rewrite normrM (gtr0_norm (pi_gt0 k)) ler_wpmul2l ?far // ltW ?pi_gt0.
Qed.

Theorem F4_cotangent : \sum_i pi i * `|c i - mean| <= 2%:R * (1 - pi m) * (hi - lo).
Proof.
apply: le_trans (_ : \sum_i pi i * (`|c i - c m| + `|c m - mean|) <= _).
  apply: ler_sum => i _; apply: ler_wpmul2l; first by rewrite ltW ?pi_gt0.
  by have := ler_norm_add (c i - c m) (c m - mean); rewrite addrA subrK.
under eq_bigr do rewrite mulrDr; rewrite big_split -mulr_suml pi_sum mul1r -mulrA mulr_natl mulr2n.
apply: ler_add off_top; rewrite (bigD1 m) //= subrr normr0 mulr0 add0r -pi_rest mulr_suml; apply: ler_sum => i _.
by rewrite ler_wpmul2l ?far // ltW ?pi_gt0.
Qed.

(* the speed at which the smallest gap falls at most under the flow of the logits, with j the second largest *)
Theorem F4_rate j : (forall i, i != m -> u i <= u j) ->
  pi m * `|c m - mean| + pi j * `|c j - mean| <= #|I|%:R * u j * (hi - lo).
Proof.
move=> second; have R0 : 0 <= hi - lo by exact: le_trans (normr_ge0 _) (far m m).
have -> : #|I|%:R * u j * (hi - lo) = (#|I|%:R - 1) * u j * (hi - lo) + u j * (hi - lo).
  by rewrite -mulrDl mulrBl mul1r subrK.
apply: ler_add; last by apply: ler_pmul; rewrite ?normr_ge0 ?off_le ?F4_below // ltW ?pi_gt0.
apply: le_trans (_ : 1 * `|c m - mean| <= _); first by rewrite ler_wpmul2r ?normr_ge0 ?pi_le1.
rewrite mul1r; apply: le_trans off_top _; rewrite ler_wpmul2r //; exact: F4_mass.
Qed.
End Bounded.

(* the gradient of the entropy, with l_i = log pi_i *)
Variable l : I -> R.
Hypothesis below : forall i, l i <= 0.
Definition entropy := - \sum_i pi i * l i.
Theorem F4_entropy : \sum_i pi i * `|l i + entropy| <= 2%:R * entropy.
Proof.
have H0 : 0 <= entropy.
  by rewrite /entropy -sumrN sumr_ge0 // => i _; rewrite oppr_ge0 mulr_ge0_le0 // ltW ?pi_gt0.
apply: le_trans (_ : \sum_i pi i * (`|l i| + `|entropy|) <= _).
  by apply: ler_sum => i _; rewrite ler_wpmul2l ?ler_norm_add // ltW ?pi_gt0.
under eq_bigr do rewrite mulrDr; rewrite big_split -mulr_suml pi_sum mul1r (ger0_norm H0) mulr_natl mulr2n ler_add2r.
by rewrite /entropy -sumrN; apply: ler_sum => i _; rewrite (ler0_norm (below i)) mulrN.
Qed.
End Softmax.
