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

(* without gradient a weight is kept, or multiplied by 1 - eta lambda: the premise of F2b_cone *)
Theorem F2b_multiplies r : (forall t, eta t * lambda <= 1) -> forall t w s, empty s ->
  (empty (decoupled lambda r t w 0 s).2 /\ exists2 a, 0 <= a & (decoupled lambda r t w 0 s).1 = a * w) /\
  (empty (coupled lambda Sgd t w 0 s).2 /\ exists2 a, 0 <= a & (coupled lambda Sgd t w 0 s).1 = a * w).
Proof.
move=> small t w s s0; split; split.
- by rewrite /decoupled; have := still r t w s0; case: (update _ _ _ _ _) => w' s' [].
- exists (1 - eta t * lambda); first by rewrite subr_ge0.
  rewrite /decoupled; have := still r t w s0; case: (update _ _ _ _ _) => w' s' [/= -> _].
  by rewrite mulrBl mul1r.
- by [].
exists (1 - eta t * lambda); first by rewrite subr_ge0.
by rewrite /coupled /= add0r mulrA mulrBl mul1r.
Qed.

(* F2b (ii): the weights into v are <= 0 at the start, v is a ReLU whose feeding units are >= 0; lambda = 0 is without decay *)
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
  by case: (F2b_multiplies r small t w s_0).
Qed.
End Dead.

(* F2b (iii): Adam with coupled decay, first step from zero state; bias corrections turn its moments into g and g^2 *)
Theorem F2b_adam_l2 b1 b2 e w : (forall x, root (x ^+ 2) = `|x|) -> 0 < e -> 0 < lambda ->
  first 0 * (1 - b1) = 1 -> second 0 * (1 - b2) = 1 -> w != 0 ->
  ((coupled lambda (Adam b1 b2 e) 0 w 0 (0, 0)).1 * w < 0) = (`|w| < eta 0 - e / lambda).
Proof.
move=> rootE e0 l0 f1 f2 w0; rewrite /coupled /= !mulr0 !add0r (mulrA (first 0)) f1 (mulrA (second 0)) f2 !mul1r rootE.
have d0 : 0 < `|lambda * w| + e by rewrite ltr_spaddr.
have -> : (w - eta 0 * (lambda * w) / (`|lambda * w| + e)) * w = w ^+ 2 / (`|lambda * w| + e) * (`|lambda * w| + e - eta 0 * lambda).
  set d := _ + e in d0 *; have dn : d != 0 by rewrite gt_eqF.
  rewrite mulrBr divfK // mulrBl expr2; congr (_ - _).
  by rewrite mulrAC [RHS]mulrAC; congr (_ / _); rewrite [RHS]mulrC !mulrA.
have w2 : 0 < w ^+ 2 by rewrite lt_def sqrf_eq0 w0 sqr_ge0.
rewrite pmulr_rlt0 ?divr_gt0 // subr_lt0 normrM (ger0_norm (ltW l0)) -[RHS](ltr_pmul2l l0) mulrBr.
by rewrite [lambda * (e / lambda)]mulrC divfK ?gt_eqF // ltr_subr_addr [lambda * eta 0]mulrC.
Qed.

(* heavy ball with coupled decay and no gradient: signs stay if eta lambda <= (1 - sqrt mu)^2 *)
Fixpoint swing (mu w : R) (T : nat) : R * R :=                     (* the weight, and that of the step before *)
  if T is T'.+1 then let: (x, y) := swing mu w T' in ((1 + mu - eta 0 * lambda) * x - mu * y, x) else (w, w).
Theorem F2b_heavy_ball_l2 m w : 0 <= m <= 1 -> eta 0 * lambda <= (1 - m) ^+ 2 -> 0 < w -> forall T,
  0 <= (swing (m ^+ 2) w T).1.
Proof.
move=> /andP[m0 m1] small w0 T.
suff [x0 [y0 le]] : 0 <= (swing (m ^+ 2) w T).1 /\ 0 <= (swing (m ^+ 2) w T).2 /\
    m * (swing (m ^+ 2) w T).2 <= (swing (m ^+ 2) w T).1 by [].
elim: T => [|T] /=; first by have w1 := ltW w0; rewrite w1 ler_pimull.
case: (swing _ _ T) => x y /= [x0 [y0 le]].
have low : m * x <= (1 + m ^+ 2 - eta 0 * lambda) * x - m ^+ 2 * y.
  rewrite ler_subr_addr; apply: le_trans (_ : m * x + m * x <= _).
    by rewrite ler_add2l expr2 -mulrA ler_wpmul2l.
  rewrite -mulrDl ler_wpmul2r // ler_subr_addl -ler_subr_addr; apply: le_trans small _.
  by rewrite sqrrB expr1n mul1r mulr2n addrAC.
by split; [exact: le_trans (mulr_ge0 m0 x0) low | split].
Qed.
End Rules.

(* and change otherwise *)
Section Swing.
Variables (R : archiFieldType) (eta : nat -> R) (lambda : R).
Notation swing := (swing eta lambda).
Theorem F2b_heavy_ball_turns m w : 0 < m -> (1 - m) ^+ 2 < eta 0%N * lambda -> 0 < w -> exists T, (swing (m ^+ 2) w T).1 < 0.
Proof.
move=> m0 big w0; pose d := eta 0%N * lambda - (1 - m) ^+ 2; have d0 : 0 < d by rewrite subr_gt0.
pose x T := (swing (m ^+ 2) w T).1; pose y T := (swing (m ^+ 2) w T).2.
have xS T : x T.+1 = (1 + m ^+ 2 - eta 0%N * lambda) * x T - m ^+ 2 * y T by rewrite /x /y /=; case: (swing _ _ T).
have yS T : y T.+1 = x T by rewrite /x /y /=; case: (swing _ _ T).
have zero T : x T = 0 -> 0 < y T -> exists k, x k < 0.
  by move=> xT yT; exists T.+1; rewrite xS xT mulr0 sub0r oppr_lt0 mulr_gt0 ?exprn_gt0.
have slower T : (exists k, x k < 0) \/ 0 < y T /\ x T <= (1 - T%:R * d) * y T.
  elim: T => [|T [|[yT le]]]; [by right; rewrite mul0r subr0 mul1r | by left|].
  have [neg|pos|xT] := ltgtP (x T) 0; [by left; exists T | | by left; exact: zero xT yT].
  right; rewrite yS xS; split=> //; set r := 1 - T%:R * d in le.
  have r0 : 0 < r by move: (lt_le_trans pos le); rewrite pmulr_lgt0.
  have rE : 1 - T.+1%:R * d = r - d by rewrite /r -addn1 natrD mulrDl mul1r opprD addrA.
  rewrite -(ler_pmul2l r0) rE mulrBr.
  apply: le_trans (_ : ((1 + m ^+ 2 - eta 0%N * lambda) * r - m ^+ 2) * x T <= _).
    rewrite [X in _ <= X]mulrBl mulrA [r * _]mulrC ler_add2l ler_opp2 [r * _]mulrCA.
    by rewrite ler_wpmul2l // exprn_ge0 // ltW.
  by rewrite mulrA ler_pmul2r // -subr_ge0 swing_identity sqr_ge0.
have := archi_boundP (ltW (divr_gt0 ltr01 d0)); set T := Num.bound _; rewrite ltr_pdivr_mulr // => Td.
have [//|[yT le]] := slower T; have xT : x T < 0; last by exists T.
by apply: le_lt_trans le _; rewrite pmulr_llt0 // subr_lt0.
Qed.
End Swing.
