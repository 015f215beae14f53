(* Rules of optimizers by name: what each does to a weight without gradient, and so to a dead unit (F2b). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable frozen identities.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Rules.
Variable R : realFieldType.
Inductive rule := Sgd | HeavyBall of R | Nesterov of R | Adam of R & R & R.   (* mu; mu; beta_1, beta_2, epsilon *)
Definition state := (R * R)%type.                                (* first and second moment, or velocity *)
(* bias corrections and the square root of Adam: any functions will do *)
Variables (eta first second : nat -> R) (root : R -> R).
Definition update (r : rule) (t : nat) (w g : R) (s : state) : R * state :=
  match r with
  | Sgd => (w - eta t * g, s)
  | HeavyBall mu => let m := mu * s.1 + g in (w - eta t * m, (m, s.2))
  | Nesterov mu => let m := mu * s.1 + g in (w - eta t * (g + mu * m), (m, s.2))
  | Adam b1 b2 e =>
    let m := b1 * s.1 + (1 - b1) * g in let v := b2 * s.2 + (1 - b2) * g ^+ 2 in
    (w - eta t * (first t * m) / (root (second t * v) + e), (m, v))
  end.
(* decoupled decay shrinks the weight beside the step of the rule; coupled (L2) decay is part of the gradient *)
Definition decoupled (lambda : R) (r : rule) t w g s : R * state :=
  let: (w', s') := update r t w g s in (w' - eta t * lambda * w, s').
Definition coupled (lambda : R) (r : rule) t w g s : R * state := update r t w (g + lambda * w) s.

Variable lambda : R.
Definition empty (s : state) := s.1 = 0.                           (* no momentum on entry *)

Lemma still r t w s : empty s -> (update r t w 0 s).1 = w /\ empty (update r t w 0 s).2.
Proof.
by rewrite /empty => s0; case: r => [|mu|mu|b1 b2 e] /=; rewrite s0 !(mulr0, addr0, mul0r, subr0).
Qed.

(* without gradient, and with no momentum, a weight is multiplied by 1 - eta lambda; lambda = 0 is without decay *)
Theorem F2b_multiplies r t w s : empty s ->
  [/\ empty (decoupled lambda r t w 0 s).2, (decoupled lambda r t w 0 s).1 = (1 - eta t * lambda) * w,
      empty (coupled lambda Sgd t w 0 s).2 & (coupled lambda Sgd t w 0 s).1 = (1 - eta t * lambda) * w].
Proof.
move=> s0; split=> //; try by rewrite /coupled /= add0r mulrA mulrBl mul1r.
  by rewrite /decoupled; have := still r t w s0; case: (update _ _ _ _ _) => w' s' [].
by rewrite /decoupled; have := still r t w s0; case: (update _ _ _ _ _) => w' s' [/= -> _]; rewrite mulrBl mul1r.
Qed.

(* F2d: v is saturated from some step on, so the gradient of a weight w into v is zero from there on *)
Fixpoint coast r (w : R) s (T : nat) : R * state :=
  if T is T'.+1 then let: (w', s') := coast r w s T' in update r T' w' 0 s' else (w, s).
Theorem F2d_stays r w s T : empty s -> (coast r w s T).1 = w /\ empty (coast r w s T).2.
Proof.
move=> s0; elim: T => //= T; case: (coast r w s T) => w' s' /= [-> /(still r T w) [w1 s1]].
by split.
Qed.

(* by what a buffer is multiplied in each step *)
Definition memory r := match r with Sgd => 0 | HeavyBall mu => mu | Nesterov mu => mu | Adam b1 _ _ => b1 end.
Definition moving r t := 0 < eta t /\ 0 < memory r /\ if r is Adam _ _ e then 0 < e /\ 0 < first t else True.
Hypothesis root_ge0 : forall x, 0 <= root x.
Theorem F2d_buffers r t w s : moving r t -> (update r t w 0 s).2.1 = memory r * s.1 /\
  exists2 a, 0 < a & (update r t w 0 s).1 = w - a * (memory r * s.1).
Proof.
move=> [eta0 [mem0 adam]]; case: r mem0 adam => [|mu|mu|b1 b2 e] /= mem0 adam; first by rewrite ltxx in mem0.
- by split; [rewrite addr0 | exists (eta t) => //; rewrite addr0].
- by split; [rewrite addr0 | exists (eta t * mu); rewrite ?mulr_gt0 // add0r addr0 !mulrA].
case: adam => e0 first0; split; first by rewrite mulr0 addr0.
exists (eta t * first t / (root (second t * (b2 * s.2 + (1 - b2) * 0 ^+ 2)) + e)); last by rewrite mulr0 addr0 [in RHS]mulrAC !mulrA.
by rewrite divr_gt0 ?mulr_gt0 // ltr_spaddr.
Qed.
Theorem F2d_moves r t w s : moving r t -> ((update r t w 0 s).1 == w) = (s.1 == 0).
Proof.
move=> mv; have [_ [mem0 _]] := mv; have [_ [a a0 ->]] := F2d_buffers w s mv.
by rewrite -subr_eq0 addrAC subrr add0r oppr_eq0 mulrA mulf_eq0 gt_eqF // mulr_gt0.
Qed.
Theorem F2d_decay r t w s : empty s -> eta t * lambda != 0 ->
  ((decoupled lambda r t w 0 s).1 == w) = (w == 0) /\ ((coupled lambda Sgd t w 0 s).1 == w) = (w == 0).
Proof.
move=> s0 el0; have [_ -> _ ->] := F2b_multiplies r t w s0.
by rewrite mulrBl mul1r -subr_eq0 addrAC subrr add0r oppr_eq0 mulf_eq0 (negPf el0).
Qed.

(* F2b (ii): the weights into v are <= 0 at the start, v is a ReLU whose feeding units are >= 0 *)
Section Dead.
Variables (V : eqType) (N : net R V) (rk : V -> nat) (v : V) (X : (V -> R) -> Prop).
Hypothesis dag : acyclic_by N rk.
Hypothesis relu : forall z, act N v z = Num.max 0 z.
Hypothesis relu' : forall z, slp N v z = (0 < z)%R%:R.
Hypothesis hidden : ~~ inp N v.
Hypothesis feeds : forall (w : weights R V) x u, X x -> edge N u v -> 0 <= forward N w x u.
Variables (B : nat -> weights R V -> seq (sample R V)) (w0 : weights R V) (s0 : V -> V -> state).
Hypothesis data : forall t w, List.Forall (fun s => X (xval s)) (B t w).
Hypothesis small : forall t, eta t * lambda <= 1.

Theorem F2b_named r : cone N v w0 -> (forall u, edge N u v -> empty (s0 u v)) -> forall T,
  cone N v (train_own N (decoupled lambda r) B w0 s0 T).1 /\ cone N v (train_own N (coupled lambda Sgd) B w0 s0 T).1.
Proof.
move=> cw0 Zs0 T; split; apply: (F2b_cone dag relu relu' hidden feeds (Z := empty)) => // t w s s_0;
  have [e1 m1 e2 m2] := F2b_multiplies r t w s_0; split=> //; exists (1 - eta t * lambda) => //; by rewrite subr_ge0.
Qed.
End Dead.

(* F2b (iii): Adam with coupled decay, first step from zero state; bias corrections turn its moments into g and g^2 *)
Theorem F2b_adam_l2 b1 b2 e w (next := (coupled lambda (Adam b1 b2 e) 0 w 0 (0, 0)).1) :
  (forall x, root (x ^+ 2) = `|x|) -> 0 < e -> 0 < lambda -> first 0 * (1 - b1) = 1 -> second 0 * (1 - b2) = 1 ->
  (next * w < 0) = (0 < `|w| < eta 0 - e / lambda) /\ (w = 0 -> next = 0).
Proof.
move=> rootE e0 l0 f1 f2; rewrite /next /coupled /= !mulr0 !add0r (mulrA (first 0)) f1 (mulrA (second 0)) f2 !mul1r rootE.
split=> [|->]; last by rewrite !(mulr0, mul0r) subr0.
have [->|w0] := eqVneq w 0; first by rewrite mulr0 normr0 ltxx.
have d0 : 0 < `|lambda * w| + e by rewrite ltr_spaddr.
have -> : (w - eta 0 * (lambda * w) / (`|lambda * w| + e)) * w = w ^+ 2 / (`|lambda * w| + e) * (`|lambda * w| + e - eta 0 * lambda).
  set d := _ + e in d0 *; have dn : d != 0 by rewrite gt_eqF.
  rewrite mulrBr divfK // mulrBl expr2; congr (_ - _).
  by rewrite mulrAC [RHS]mulrAC; congr (_ / _); rewrite [RHS]mulrC !mulrA.
have w2 : 0 < w ^+ 2 by rewrite lt_def sqrf_eq0 w0 sqr_ge0.
rewrite normr_gt0 w0 pmulr_rlt0 ?divr_gt0 // subr_lt0 normrM (ger0_norm (ltW l0)) -[RHS](ltr_pmul2l l0) mulrBr.
by rewrite [lambda * (e / lambda)]mulrC divfK ?gt_eqF // ltr_subr_addr [lambda * eta 0]mulrC.
Qed.
End Rules.

(* heavy ball of momentum m^2 with coupled decay, from zero state and without gradient *)
Section HeavyBall.
Variables (R : archiFieldType) (first second : nat -> R) (root : R -> R) (eta lambda m : R).
Fixpoint decaying (w : R) (T : nat) : R * state R :=
  if T is T'.+1 then let: (w', s) := decaying w T' in
    coupled (fun=> eta) first second root lambda (HeavyBall (m ^+ 2)) T' w' 0 s
  else (w, (0, 0)).
Notation at_ w T := (decaying w T).1.

Lemma buffer w T : eta * (decaying w T).2.1 = at_ w T.-1 - at_ w T.
Proof.
case: T => [|T] /=; first by rewrite mulr0 subrr.
by case: (decaying w T) => x s /=; rewrite opprB [RHS]addrC subrK.
Qed.
Theorem F2b_heavy_ball_recurrence w T :
  at_ w T.+1 = (1 + m ^+ 2 - eta * lambda) * at_ w T - m ^+ 2 * at_ w T.-1.
Proof.
have := buffer w T; rewrite /=; case: (decaying w T) => x s /= b.
rewrite add0r mulrDr (mulrCA eta) b mulrBr mulrA opprD opprB [(1 + _ - _) * _]mulrBl mulrDl mul1r.
by rewrite addrA addrA addrAC.
Qed.

Lemma linear w T : at_ w T = w * at_ 1 T /\ (decaying w T).2.1 = w * (decaying 1 T).2.1.
Proof.
elim: T => [|T] /=; first by rewrite mulr1 mulr0.
case: (decaying w T) (decaying 1 T) => [x s] [x1 s1] /= [-> ->].
have momentum : m ^+ 2 * (w * s1.1) + (0 + lambda * (w * x1)) = w * (m ^+ 2 * s1.1 + (0 + lambda * x1)).
  by rewrite !add0r mulrDr mulrCA [lambda * _]mulrCA.
by rewrite momentum mulrCA -mulrBr.
Qed.

Lemma keeps : 0 <= m <= 1 -> eta * lambda <= (1 - m) ^+ 2 -> forall T, 0 <= at_ 1 T.
Proof.
move=> /andP[m0 m1] small T.
suff [x0 [y0 le]] : 0 <= at_ 1 T /\ 0 <= at_ 1 T.-1 /\ m * at_ 1 T.-1 <= at_ 1 T by [].
elim: T => [|T [x0 [y0 le]]]; first by rewrite /= mulr1 ler01.
rewrite F2b_heavy_ball_recurrence [T.+1.-1]/=; set x := at_ 1 T in x0 le *; set y := at_ 1 T.-1 in y0 le *.
have low : m * x <= (1 + m ^+ 2 - eta * lambda) * x - m ^+ 2 * y.
  rewrite ler_subr_addl; apply: le_trans (_ : m * x + m * x <= _).
    by rewrite ler_add2r expr2 -mulrA ler_wpmul2l.
  rewrite -mulrDl ler_wpmul2r // ler_subr_addl -ler_subr_addr; apply: le_trans small _.
  by rewrite sqrrB expr1n mul1r mulr2n addrAC.
by split; [exact: le_trans (mulr_ge0 m0 x0) low | split].
Qed.

Lemma turns : 0 < m -> (1 - m) ^+ 2 < eta * lambda -> exists T, at_ 1 T < 0.
Proof.
move=> m0 big; pose d := eta * lambda - (1 - m) ^+ 2; have d0 : 0 < d by rewrite subr_gt0.
pose x T := at_ 1 T; pose y T := at_ 1 T.-1.
have xS T : x T.+1 = (1 + m ^+ 2 - eta * lambda) * x T - m ^+ 2 * y T by exact: F2b_heavy_ball_recurrence.
have yS T : y T.+1 = x T by [].
have zero T : x T = 0 -> 0 < y T -> exists k, x k < 0.
  by move=> xT yT; exists T.+1; rewrite xS xT mulr0 sub0r oppr_lt0 mulr_gt0 ?exprn_gt0.
have slower T : (exists k, x k < 0) \/ 0 < y T /\ x T <= (1 - T%:R * d) * y T.
  elim: T => [|T [|[yT le]]]; [by right; rewrite mul0r subr0 mul1r ltr01 | by left|].
  have [neg|pos|xT] := ltgtP (x T) 0; [by left; exists T | | by left; exact: zero xT yT].
  right; rewrite yS xS; split=> //; set r := 1 - T%:R * d in le.
  have r0 : 0 < r by move: (lt_le_trans pos le); rewrite pmulr_lgt0.
  have rE : 1 - T.+1%:R * d = r - d by rewrite /r -addn1 natrD mulrDl mul1r opprD addrA.
  rewrite -(ler_pmul2l r0) rE mulrBr.
  apply: le_trans (_ : ((1 + m ^+ 2 - eta * lambda) * r - m ^+ 2) * x T <= _).
    rewrite [X in _ <= X]mulrBl mulrA [r * _]mulrC ler_add2l ler_opp2 [r * _]mulrCA.
    by rewrite ler_wpmul2l // exprn_ge0 // ltW.
  by rewrite mulrA ler_pmul2r // -subr_ge0 swing_identity sqr_ge0.
have := archi_boundP (ltW (divr_gt0 ltr01 d0)); set T := Num.bound _; rewrite ltr_pdivr_mulr // => Td.
have [//|[yT le]] := slower T; have xT : x T < 0; last by exists T.
by apply: le_lt_trans le _; rewrite pmulr_llt0 // subr_lt0.
Qed.

(* the weight changes its sign exactly then *)
Theorem F2b_heavy_ball_l2 w : 0 < m < 1 -> w != 0 ->
  (exists T, at_ w T * w < 0) <-> (1 - m) ^+ 2 < eta * lambda.
Proof.
move=> /andP[m0 m1] w0; have w2 : 0 < w ^+ 2 by rewrite lt_def sqrf_eq0 w0 sqr_ge0.
have sign T : (at_ w T * w < 0) = (at_ 1 T < 0).
  by have [-> _] := linear w T; rewrite mulrC mulrA -expr2 pmulr_rlt0.
split=> [[T]|big]; last by have [T neg] := turns m0 big; exists T; rewrite sign.
rewrite sign => neg; rewrite ltNge; apply/negP => small.
have mm : 0 <= m <= 1 by rewrite !ltW.
by have := keeps mm small T; rewrite leNgt neg.
Qed.
End HeavyBall.
